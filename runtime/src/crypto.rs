//! The provider of TLS for all clients.

pub fn install_crypto_provider() {
    // Fails only where one is installed already, which serves as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
