//! The memory of parsed JSON: up to a hundred times the size of its text.

/// Bytes. A worker with 64 MiB of memory can parse it.
const MAX_WEIGHT: usize = 32 << 20;
/// Bytes of a value in an array or object, including spare capacity.
const PLACE: usize = 108;
/// Bytes of an array, whose first capacity is four.
const ARRAY: usize = 300;
/// Bytes of an object, with its index and a first capacity of three.
const OBJECT: usize = 400;
/// Bytes of a name.
const NAME: usize = 32;

/// Refuses JSON that would take much more memory than its text, such as `[[1],[1],[1]…`, before it is parsed.
pub fn check_weight(text: &[u8]) -> Result<(), String> {
    // Most texts are too short for that, whatever they contain.
    if text.len() <= (MAX_WEIGHT - PLACE) / (OBJECT + 1) {
        return Ok(());
    }
    let weight = weight(text);
    if weight > MAX_WEIGHT {
        return Err(format!(
            "it has so many values that parsing would take about {} MiB of memory; the limit is {} MiB",
            weight >> 20,
            MAX_WEIGHT >> 20
        ));
    }
    Ok(())
}

/// An upper bound, in bytes.
pub fn weight(text: &[u8]) -> usize {
    let (mut weight, mut within_text, mut escaped) = (PLACE + text.len(), false, false);
    for byte in text {
        if within_text {
            within_text = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            continue;
        }
        weight += match byte {
            b'"' => {
                within_text = true;
                0
            }
            b'[' => ARRAY,
            b'{' => OBJECT,
            b',' => PLACE,
            b':' => NAME,
            _ => 0,
        };
    }
    weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_values_weigh_more_than_long_text() {
        let mebibyte = |part: &str| format!("[{}0]", part.repeat((1 << 20) / part.len()));
        for (text, fits) in [
            (format!("\"{}\"", "[".repeat(1 << 20)), true),
            (format!("\"{}\"", "\\\"[".repeat(300_000)), true),
            (mebibyte("12.25,"), true),
            (mebibyte("{\"id\":123456,\"value\":1.5},"), true),
            (mebibyte("1,"), false),
            (mebibyte("[1],"), false),
            (mebibyte("{},"), false),
            (format!("\"\\\\\"{}", "[".repeat(200_000)), false),
            ("{".repeat(83_676), true),
            ("{".repeat(83_677), false),
        ] {
            assert_eq!(check_weight(text.as_bytes()).is_ok(), fits, "{}", &text[..30]);
        }
        let error = check_weight(mebibyte("[1],").as_bytes()).unwrap_err();
        assert!(error.contains("the limit is 32 MiB"), "{error}");
    }
}
