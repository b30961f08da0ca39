//! Secrets and ConfigMaps as a pod has them.

use std::{fs, path::Path};

use tempfile::TempDir;
use userpipeline_stores::Secrets;

use crate::{certificates::Issued, local::Server};

pub struct Mounted {
    dir: TempDir,
}

impl Mounted {
    /// With user name and password in the Secret `login`.
    pub fn new() -> Self {
        let mounted = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        mounted.secret("login", &[("username", "ann"), ("password", "one")]);
        mounted
    }

    pub fn secrets(&self) -> Secrets {
        Secrets::in_dir(self.dir.path().join("secrets")).with_config_maps(self.dir.path().join("config-maps"))
    }

    pub fn secret(&self, name: &str, keys: &[(&str, &str)]) {
        write(&self.dir.path().join("secrets").join(name), keys);
    }

    /// User name and password of a server, in the Secret `login`.
    pub fn login(&self, server: &Server) {
        self.secret("login", &[("username", &server.username), ("password", &server.password)]);
    }

    /// The key `ca.crt` of the ConfigMap `ca`.
    pub fn ca(&self, pem: &str) {
        write(&self.dir.path().join("config-maps/ca"), &[("ca.crt", pem)]);
    }

    /// The Secret `client`.
    pub fn client(&self, issued: &Issued) {
        self.secret("client", &[("tls.crt", &issued.certificate), ("tls.key", &issued.key)]);
    }
}

fn write(folder: &Path, keys: &[(&str, &str)]) {
    fs::create_dir_all(folder).unwrap();
    for (key, value) in keys {
        fs::write(folder.join(key), value).unwrap();
    }
}
