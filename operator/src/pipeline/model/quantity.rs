//! Kubernetes quantities, parsed as far as comparing two of them needs.

/// The number that a quantity such as `500m`, `1e3` or `256Mi` denotes.
pub fn value(text: &str) -> Option<f64> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0_f64.powi(4),
        "Pi" => 1024.0_f64.powi(5),
        "Ei" => 1024.0_f64.powi(6),
        exponent => 10.0_f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let number: f64 = number.parse().ok()?;
    Some(number * factor)
}

/// Whether two texts are the same quantity: the apiserver rewrites `1000m` to `1`.
pub fn same(a: &str, b: &str) -> bool {
    match (value(a), value(b)) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_quantity_is_recognised_however_it_is_written() {
        for (a, b) in [("1000m", "1"), ("1Gi", "1024Mi"), ("1e3", "1k"), ("0.5", "500m")] {
            assert!(same(a, b), "{a} {b}");
        }
        for (a, b) in [("1", "2"), ("1G", "1Gi"), ("x", "x")] {
            assert!(!same(a, b), "{a} {b}");
        }
    }
}
