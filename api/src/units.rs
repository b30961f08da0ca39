//! Durations and sizes, in Kubernetes' notation (`30s`, `8Mi`).

pub use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
pub use kube::core::Duration;

/// A whole number of seconds as a [`Duration`], for defaults.
pub(crate) const fn seconds(s: u64) -> std::time::Duration {
    std::time::Duration::from_secs(s)
}

/// Size in bytes of a quantity such as `8Mi`, `500k` or `1048576`.
///
/// Integers only, with the suffixes k, M, G, T and Ki, Mi, Gi, Ti.
///
/// # Errors
/// Describes what is wrong with the text.
pub fn bytes(quantity: &Quantity) -> Result<u64, String> {
    let text = quantity.0.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is not a size such as 8Mi"))?;
    let factor: u64 = match suffix {
        "" => 1,
        "k" => 1000,
        "M" => 1000_u64.pow(2),
        "G" => 1000_u64.pow(3),
        "T" => 1000_u64.pow(4),
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        other => {
            return Err(format!(
                "`{text}` has the unknown suffix `{other}`; use k, M, G, T, Ki, Mi, Gi or Ti"
            ));
        }
    };
    number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_kubernetes_writes_them() {
        for (text, expected) in [("0", 0), ("17", 17), ("8Mi", 8 << 20), ("500k", 500_000), ("1Ti", 1 << 40)] {
            assert_eq!(bytes(&Quantity(text.into())), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_size_that_makes_no_sense_says_why() {
        for (text, says) in [
            ("", "not a size"),
            ("-1", "not a size"),
            ("8 Mi", "suffix"),
            ("8MB", "suffix"),
            ("99999999Ti", "too large"),
        ] {
            let error = bytes(&Quantity(text.into())).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
