//! What a failed handshake means.

use std::{error::Error, fmt::Write as _, io};

use rustls::{AlertDescription, CertificateError, Error as TlsError, InvalidMessage};

/// Why a TLS handshake failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsProblem {
    /// The server's certificate has expired.
    Expired,
    NotYetValid,
    /// None of the authorities signed it.
    UnknownAuthority,
    /// It does not have the name: a text with its names, or nothing.
    OtherName(String),
    Invalid(String),
    /// The server does not accept the client certificate, or wants one.
    ClientRefused {
        expired: bool,
        alert: String,
    },
    /// The server does not speak TLS.
    NoTls,
    Other(String),
}

impl TlsProblem {
    /// The handshake's error among the causes of an error; none where it has another cause.
    pub fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<TlsError>() {
                return Some(Self::of(error));
            }
            // Its source is the source of what it wraps.
            let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            cause = match wrapped {
                Some(wrapped) => Some(wrapped),
                None => error.source(),
            };
        }
        None
    }

    pub fn of(error: &TlsError) -> Self {
        match error {
            TlsError::InvalidCertificate(error) => Self::of_certificate(error),
            TlsError::AlertReceived(alert) => Self::of_alert(*alert),
            // What a server without TLS sends, read as TLS.
            TlsError::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge
                | InvalidMessage::InvalidEmptyPayload,
            ) => Self::NoTls,
            other => Self::Other(other.to_string()),
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            // An authority of the same name with another key gives a bad signature.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
            CertificateError::NotValidForName => Self::OtherName(String::new()),
            CertificateError::NotValidForNameContext { expected, presented } => {
                let mut text = format!(" than `{}`", expected.to_str());
                if !presented.is_empty() {
                    let _ = write!(text, " (it is for {})", presented.join(", "));
                }
                Self::OtherName(text)
            }
            other => Self::Invalid(other.to_string()),
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        let refused = |expired| Self::ClientRefused {
            expired,
            alert: format!("alert {alert:?}"),
        };
        match alert {
            AlertDescription::CertificateExpired => refused(true),
            AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            // The answer of TLS 1.2 to a missing certificate.
            | AlertDescription::HandshakeFailure => refused(false),
            other => Self::Other(format!("the server sent the alert {other:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    #[test]
    fn the_causes_of_a_failed_handshake_are_distinguished() {
        use CertificateError as C;
        let refused = |expired| TlsProblem::ClientRefused {
            expired,
            alert: String::new(),
        };
        for (error, expected) in [
            (TlsError::InvalidCertificate(C::Expired), TlsProblem::Expired),
            (
                TlsError::InvalidCertificate(C::ExpiredContext {
                    time: UnixTime::now(),
                    not_after: UnixTime::now(),
                }),
                TlsProblem::Expired,
            ),
            (TlsError::InvalidCertificate(C::UnknownIssuer), TlsProblem::UnknownAuthority),
            (TlsError::InvalidCertificate(C::BadSignature), TlsProblem::UnknownAuthority),
            (TlsError::AlertReceived(AlertDescription::CertificateRequired), refused(false)),
            (TlsError::AlertReceived(AlertDescription::CertificateExpired), refused(true)),
            (TlsError::InvalidMessage(InvalidMessage::InvalidContentType), TlsProblem::NoTls),
        ] {
            // As clients wrap it.
            let wrapped = io::Error::other(io::Error::other(error.clone()));
            let found = match TlsProblem::find(&wrapped).unwrap() {
                TlsProblem::ClientRefused { expired, .. } => refused(expired),
                found => found,
            };
            assert_eq!(found, expected, "{error}");
        }
        assert_eq!(TlsProblem::find(&io::Error::other("reset")), None);
        assert_eq!(TlsProblem::find(&io::Error::other(Arc::new(io::Error::other("reset")))), None);
    }

    #[test]
    fn a_certificate_for_another_name_is_described_with_its_names() {
        let error = TlsError::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("db").unwrap(),
            presented: vec!["DnsName(\"other\")".to_owned()],
        });
        assert_eq!(
            TlsProblem::of(&error),
            TlsProblem::OtherName(" than `db` (it is for DnsName(\"other\"))".to_owned())
        );
    }
}
