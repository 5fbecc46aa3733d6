//! Tests of the certificate: made once, read again when it changes, and kept when what comes after is no good.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A certificate of its own, in two files.
fn make(files: &CertificateFiles) {
    let dir = tempfile::tempdir().unwrap();
    own::read_or_make(dir.path(), &[]).unwrap();
    let both = fs::read_to_string(dir.path().join("tls.pem")).unwrap();
    let (key, certificate) = both.split_at(both.find("-----BEGIN CERTIFICATE").unwrap());
    write(&files.certificate, certificate);
    write(&files.key, key);
}

fn in_dir(dir: &Path) -> CertificateFiles {
    CertificateFiles { certificate: dir.join("certificate.pem"), key: dir.join("key.pem") }
}

/// The certificate that is in use, or why none is.
fn load(listen: &Listen, state_dir: &Path) -> Result<Arc<Loaded>, String> {
    let certificates = Certificates::new(listen, state_dir);
    certificates.look();
    let state = certificates.state();
    state.loaded.clone().ok_or_else(|| state.problem.clone().unwrap())
}

#[test]
fn a_certificate_is_made_once_and_kept_with_its_key_for_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let listen = Listen { names: vec!["box.example".into(), "192.0.2.7".into()], ..Listen::default() };
    let first = load(&listen, dir.path()).unwrap();
    let file = dir.path().join("tls.pem");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    let again = load(&Listen::default(), dir.path()).unwrap();
    assert_eq!(first.fingerprint, again.fingerprint);
    assert!(first.fingerprint.len() == 71 && first.fingerprint.starts_with("SHA256:"));
    assert_eq!((first.until, first.expiry()), (Some(253_402_214_400), None));
    // What is broken is not replaced.
    for text in ["", "-----BEGIN CERTIFICATE-----\n", "x"] {
        write(&file, text);
        let why = load(&listen, dir.path()).err().unwrap();
        assert!(why.contains("tls.pem"), "{why}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(load(&listen, dir.path()).err().unwrap().contains("0666"));
}

#[test]
fn files_that_have_changed_are_read_again_and_bad_ones_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = in_dir(dir.path());
    make(&files);
    let listen = Listen { files: Some(files.clone()), ..Listen::default() };
    let certificates = Certificates::new(&listen, dir.path());
    let fingerprint = || certificates.state().loaded.as_ref().unwrap().fingerprint.clone();
    certificates.look();
    let first = fingerprint();
    certificates.look();
    assert_eq!((fingerprint(), certificates.problem()), (first.clone(), None));
    let other = in_dir(tempfile::tempdir_in(dir.path()).unwrap().keep().as_path());
    make(&other);
    // The certificate is there, its key is not yet.
    fs::copy(&other.certificate, &files.certificate).unwrap();
    certificates.look();
    assert_eq!(fingerprint(), first);
    assert!(certificates.problem().unwrap().contains("cannot be used"), "{:?}", certificates.problem());
    fs::copy(&other.key, &files.key).unwrap();
    certificates.look();
    let second = fingerprint();
    assert!(second != first && certificates.problem().is_none());
    for (file, text) in [(&files.certificate, ""), (&files.key, "x")] {
        write(file, text);
        certificates.look();
        assert_eq!(fingerprint(), second);
        assert!(certificates.problem().is_some());
        make(&files);
        certificates.look();
        assert!(certificates.problem().is_none());
        fs::copy(&other.certificate, &files.certificate).unwrap();
        fs::copy(&other.key, &files.key).unwrap();
        certificates.look();
        assert_eq!(fingerprint(), second);
    }
    fs::remove_file(&files.key).unwrap();
    certificates.look();
    assert_eq!(fingerprint(), second);
}

#[test]
fn what_could_not_be_used_at_the_start_is_used_once_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let files = in_dir(dir.path());
    let by_files = Listen { files: Some(files.clone()), ..Listen::default() };
    write(&dir.path().join("tls.pem"), "broken");
    let mend_files = || make(&files);
    let mend_own = || fs::remove_file(dir.path().join("tls.pem")).unwrap();
    for (listen, mend) in [(by_files, &mend_files as &dyn Fn()), (Listen::default(), &mend_own)] {
        let certificates = Certificates::new(&listen, dir.path());
        assert!(certificates.problem().is_some(), "nothing is read yet");
        certificates.look();
        assert!(certificates.state().loaded.is_none());
        assert!(certificates.problem().unwrap().starts_with("the port takes nobody: "));
        mend();
        certificates.look();
        assert!(certificates.state().loaded.is_some() && certificates.problem().is_none());
    }
}

#[test]
fn what_others_could_have_written_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let files = in_dir(dir.path());
    make(&files);
    let listen = Listen { files: Some(files.clone()), ..Listen::default() };
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(load(&listen, dir.path()).err().unwrap().contains("0666"));
    fs::remove_file(&files.key).unwrap();
    nix::unistd::mkfifo(&files.key, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(load(&listen, dir.path()).err().unwrap().contains("no regular file"));
}

#[test]
fn an_expiry_is_said_some_time_before() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut wanted = rcgen::CertificateParams::new(Vec::new()).unwrap();
    let made = |wanted: &rcgen::CertificateParams| {
        let der = wanted.self_signed(&key).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Loaded::new(vec![der], key, None).unwrap().expiry().map(|(_, words)| words)
    };
    wanted.not_after = rcgen::date_time_ymd(2021, 1, 1);
    assert!(made(&wanted).unwrap().starts_with("expired "));
    wanted.not_after = rcgen::date_time_ymd(3000, 1, 1);
    assert_eq!(made(&wanted), None);
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    wanted.not_after = (std::time::SystemTime::now() + 3 * day).into();
    assert!(made(&wanted).unwrap().starts_with("expires in "), "{:?}", made(&wanted));
    wanted.not_before = wanted.not_after - 6 * day;
    assert_eq!(made(&wanted), None, "half of a short life is left");
}
