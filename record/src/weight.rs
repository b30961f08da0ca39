//! What JSON takes in memory once it is read: up to a hundred times as much as its text.

/// The most that an item may take: a worker with 64 MiB of memory reads it.
const MAX_WEIGHT: usize = 32 << 20;
/// A value's place in an array or object, of which some are kept free.
const PLACE: usize = 108;
/// An array has room for four from the beginning.
const ARRAY: usize = 300;
/// An object has an index, and room for three.
const OBJECT: usize = 400;
/// A name is a text of its own.
const NAME: usize = 32;

/// Refuses JSON that would take much more memory than its text does, before it is read: `[[1],[1],[1]…`.
pub fn check_weight(text: &[u8]) -> Result<(), String> {
    let weight = weight(text);
    if weight > MAX_WEIGHT {
        return Err(format!(
            "it has so many values that they would take about {} MiB of memory; at most {} may",
            weight >> 20,
            MAX_WEIGHT >> 20
        ));
    }
    Ok(())
}

/// About how many bytes it takes, as an upper bound.
fn weight(text: &[u8]) -> usize {
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
    fn what_is_dense_weighs_more_than_what_is_long() {
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
        ] {
            assert_eq!(check_weight(text.as_bytes()).is_ok(), fits, "{}", &text[..30]);
        }
        let error = check_weight(mebibyte("[1],").as_bytes()).unwrap_err();
        assert!(error.contains("at most 32 may"), "{error}");
    }
}
