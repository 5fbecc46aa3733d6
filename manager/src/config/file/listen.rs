//! `[listen]`: the TLS port.

use std::path::PathBuf;

use toml::Spanned;

use super::super::bounds::LISTEN_NAMES;
use super::super::port::{CertificateFiles, Listen};
use super::super::surroundings::Surroundings;
use super::raw::RawListen;
use super::values::{HomePath, Within};

/// The byte at which the complaint's line begins, and the complaint.
type Complaint = (usize, String);

/// Checks `[listen]` as a whole.
pub(super) fn listen(raw: RawListen) -> Result<Listen, Complaint> {
    let at = |path: &Spanned<HomePath>| path.span().start;
    let files = match (&raw.certificate, &raw.key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => {
            Some(CertificateFiles { certificate: absolute(certificate)?, key: absolute(key)? })
        }
        (Some(alone), None) => {
            return Err((
                at(alone),
                "`certificate` needs its `key`; without both kennel makes its own".into(),
            ));
        }
        (None, Some(alone)) => {
            return Err((
                at(alone),
                "`key` needs its `certificate`; without both kennel makes its own".into(),
            ));
        }
    };
    if raw.names.len() > LISTEN_NAMES {
        return Err((0, format!("`names` in [listen] has at most {LISTEN_NAMES} names")));
    }
    Ok(Listen {
        tcp: raw.tcp.0,
        files,
        client_ca: raw.client_ca.as_ref().map(absolute).transpose()?,
        names: raw.names.into_iter().map(|name| name.0).collect(),
        most: Within::value(&raw.connections).unwrap_or(Listen::default().most),
    })
}

/// The path, with the home directory of the daemon's user for `~`.
fn absolute(path: &Spanned<HomePath>) -> Result<PathBuf, Complaint> {
    let written = &path.get_ref().0;
    let Some(below) = written.strip_prefix("~/") else { return Ok(PathBuf::from(written)) };
    let home = Surroundings::of_this_process().home;
    home.map(|home| home.join(below))
        .ok_or_else(|| (path.span().start, "this user has no home directory; write the whole path".into()))
}
