//! `daemon install` and `uninstall`: the systemd user unit where systemd looks for it. They run no program of systemd's: what is to
//! be typed next is said.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::daemon::{Paths, Runner, is_ours};

/// The unit's name.
const UNIT: &str = "kennel.service";
/// The link that `systemctl --user enable` makes beside the unit.
const WANTED: &str = "default.target.wants/kennel.service";
/// The unit's permissions: systemd warns of units that others cannot read.
const MODE: u32 = 0o644;

/// `daemon install`.
pub fn install(ui: &Ui, paths: &Paths) -> Outcome {
    let place = place("installed")?;
    let text = super::daemon::unit_text(paths, Runner::User)?;
    let changed = found(&place, "installed")?.as_deref() != Some(&text);
    if changed {
        let written = place.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| write(&place, &text));
        written.map_err(|error| failed(&place, "written", &error))?;
    } else {
        ui.note("the unit is installed already; nothing was changed");
    }
    ui.note(
        "to start the daemon now and at each log-in: systemctl --user daemon-reload && systemctl --user enable --now kennel; \
         a daemon that runs already is ended first, by `kennel daemon stop`",
    );
    told(ui, &place, changed)
}

/// `daemon uninstall`.
pub fn uninstall(ui: &Ui) -> Outcome {
    let place = place("removed")?;
    if found(&place, "removed")?.is_none() {
        ui.note(&format!("{} is absent; nothing was changed", place.display()));
        return told(ui, &place, false);
    }
    // Without the unit it would lead nowhere.
    let link = place.with_file_name(WANTED);
    if fs::read_link(&link).is_ok_and(|target| target == place) {
        fs::remove_file(&link).map_err(|error| failed(&link, "removed", &error))?;
    }
    fs::remove_file(&place).map_err(|error| failed(&place, "removed", &error))?;
    ui.note("a daemon that runs goes on; to let systemd know: systemctl --user daemon-reload");
    told(ui, &place, true)
}

fn told(ui: &Ui, place: &Path, changed: bool) -> Outcome {
    match ui.json {
        true => ui.object(serde_json::json!({ "path": place, "changed": changed }).to_string().as_bytes()),
        false => ui.line(&place.display().to_string()),
    }
}

/// The unit's path: where systemd looks for a user's own units (systemd.unit(5)).
fn place(what: &str) -> Outcome<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let config = config.or_else(|| Some(std::env::home_dir()?.join(".config")));
    let config = config.ok_or_else(|| {
        Failure::usage(format!("there is no home directory; nothing was {what}"))
            .hint("set HOME, or print the unit with `kennel daemon unit`")
    })?;
    Ok(config.join("systemd/user").join(UNIT))
}

/// The unit that is there, if kennel has written it; none where there is none.
fn found(place: &Path, what: &str) -> Outcome<Option<String>> {
    match fs::symlink_metadata(place) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(place, what, &error)),
        Ok(_) => {}
    }
    let is_file = fs::symlink_metadata(place).is_ok_and(|meta| meta.is_file());
    let text = if is_file { fs::read_to_string(place).ok() } else { None };
    text.filter(|text| is_ours(text)).map(Some).ok_or_else(|| {
        let detail = format!("{} was not written by kennel; nothing was {what}", place.display());
        Failure::new(exit::CONFLICT, "foreign_unit", detail)
            .hint("move it away, or use `kennel daemon unit` and put the unit where you want it")
    })
}

/// The whole unit or none of it.
fn write(place: &Path, text: &str) -> io::Result<()> {
    let directory = place.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(MODE))?;
    file.as_file().sync_all()?;
    file.persist(place)?;
    Ok(())
}

fn failed(place: &Path, what: &str, error: &io::Error) -> Failure {
    Failure::failed("unit", format!("{} could not be {what}: {error}; nothing was changed", place.display()))
        .hint("kennel needs to write there; or use `kennel daemon unit` and put the unit where you want it")
}
