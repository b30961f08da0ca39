//! Which authorities of a Kafka cluster are trusted: those that its `Kafka` resource lists, and those that it listed before, until they
//! expire. While an authority is replaced, the resource has only the new one, and brokers may still present certificates of the old one.
//! Pure.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use x509_cert::{Certificate, der::Decode};

/// Certificates that a status may hold.
const AT_MOST: usize = 8;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authorities {
    /// Each in PEM: the listed ones first.
    pub certificates: Vec<String>,
    /// When the first of those that are no longer listed expires.
    pub next_expiry: Option<Timestamp>,
}

/// The certificates to trust now. `listed` are texts of the `Kafka` resource, `trusted` the certificates that were trusted before.
pub fn authorities(listed: &[String], trusted: &[String], now: Timestamp) -> Authorities {
    let mut listed = certificates(listed);
    listed.truncate(AT_MOST);
    let mut earlier = certificates(trusted);
    earlier.retain(|(pem, not_after)| *not_after > now && listed.iter().all(|(other, _)| other != pem));
    while listed.len() + earlier.len() > AT_MOST {
        // The one that is needed for the shortest time.
        let first = earlier.iter().enumerate().min_by_key(|(_, (_, not_after))| *not_after);
        let Some((first, _)) = first else { break };
        earlier.remove(first);
    }
    Authorities {
        next_expiry: earlier.iter().map(|(_, not_after)| *not_after).min(),
        certificates: listed.into_iter().chain(earlier).map(|(pem, _)| pem).collect(),
    }
}

/// The content of the ConfigMap.
pub fn bundle(certificates: &[String]) -> String {
    certificates.iter().flat_map(|pem| [pem.as_str(), "\n"]).collect()
}

/// Each certificate once, with the end of its validity. What is no certificate is dropped: it would make the whole file unreadable.
fn certificates(texts: &[String]) -> Vec<(String, Timestamp)> {
    let mut found: Vec<(String, Timestamp)> = Vec::new();
    for text in texts.iter().flat_map(|text| text.split(BEGIN).skip(1)) {
        let Some((body, _)) = text.split_once(END) else { continue };
        let lines: Vec<&str> = body.split_whitespace().collect();
        let Some(not_after) = not_after(&lines.concat()) else { continue };
        let pem = format!("{BEGIN}\n{}\n{END}", lines.join("\n"));
        if found.iter().all(|(other, _)| *other != pem) {
            found.push((pem, not_after));
        }
    }
    found
}

fn not_after(base64: &str) -> Option<Timestamp> {
    let certificate = Certificate::from_der(&STANDARD.decode(base64).ok()?).ok()?;
    let not_after = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    Timestamp::from_second(i64::try_from(not_after.as_secs()).ok()?).ok()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The certificate of an authority that is valid up to the end of this year.
    pub fn authority(name: &str, last_year: i32) -> String {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.not_after = rcgen::date_time_ymd(last_year, 12, 31);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().pem()
    }

    fn at(year: i16) -> Timestamp {
        format!("{year}-06-01T00:00:00Z").parse().unwrap()
    }

    fn trimmed(pems: &[&String]) -> Vec<String> {
        pems.iter().map(|pem| pem.trim().replace("\r\n", "\n")).collect()
    }

    #[test]
    fn an_authority_that_is_no_longer_listed_is_trusted_until_it_expires() {
        let (old, new) = (authority("old", 2030), authority("new", 2040));
        let listed = std::slice::from_ref(&new);
        let both = trimmed(&[&new, &old]);
        for (case, trusted, year, expected) in [
            ("the first time", vec![], 2025, trimmed(&[&new])),
            ("the same", vec![new.clone()], 2025, trimmed(&[&new])),
            ("replaced", vec![old.clone()], 2025, both.clone()),
            ("later", both.clone(), 2025, both.clone()),
            ("the old one has expired", both, 2031, trimmed(&[&new])),
        ] {
            let found = authorities(listed, &trusted, at(year));
            assert_eq!(found.certificates, expected, "{case}");
            let expiry = found.next_expiry.map(|at| at.to_string());
            assert_eq!(expiry.as_deref(), (expected.len() > 1).then_some("2030-12-31T00:00:00Z"), "{case}");
        }
        // The cluster's own list is not judged.
        let expired = authorities(std::slice::from_ref(&old), &[], at(2031));
        assert_eq!(expired.certificates, trimmed(&[&old]));
    }

    #[test]
    fn texts_of_several_certificates_are_taken_apart_and_others_are_dropped() {
        let (one, two) = (authority("one", 2030), authority("two", 2030));
        let listed = [
            format!("# comment\n{one}{two}"),
            one.clone(),
            "nonsense".to_owned(),
            format!("{BEGIN}\nAAAA\n{END}"),
        ];
        assert_eq!(authorities(&listed, &[], at(2025)).certificates, trimmed(&[&one, &two]));
        assert_eq!(bundle(&["a".to_owned(), "b".to_owned()]), "a\nb\n");
    }

    #[test]
    fn beyond_the_bound_those_that_expire_first_are_dropped() {
        let earlier: Vec<String> = (0..9).map(|n| authority("earlier", 2030 + n)).collect();
        let new = authority("new", 2040);
        let found = authorities(std::slice::from_ref(&new), &earlier, at(2025)).certificates;
        let expected: Vec<&String> = std::iter::once(&new).chain(&earlier[2..]).collect();
        assert_eq!(found, trimmed(&expected));
    }
}
