//! Attachments of a prompt: their checks before anything accepts them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use protocol::api::AttachmentRequest;
use protocol::wire::{Attachment, AttachmentKind, Content};

use crate::error::Error;

/// Limit of attachments for one prompt.
pub const MAX_ATTACHMENTS: usize = 16;
/// Bytes of all attachments of one prompt at most. In base64, with the longest text and the longest history, they fit
/// into a frame to the worker.
pub const MAX_ATTACHED: usize = 8 * 1024 * 1024;

/// Checks the attachments of a request. Errors: too many, too large, or one of them is invalid.
pub fn check(requests: Vec<AttachmentRequest>) -> Result<Arc<[Attachment]>, Error> {
    if requests.len() > MAX_ATTACHMENTS {
        let what = format!("there are {} attachments, the limit is {MAX_ATTACHMENTS}", requests.len());
        return Err(invalid(what));
    }
    let attachments = requests.into_iter().map(one).collect::<Result<Vec<_>, _>>()?;
    let size: usize = attachments.iter().map(|attachment| attachment.content.size()).sum();
    if size > MAX_ATTACHED {
        return Err(Error::invalid_with(
            "attachments_too_large",
            format!(
                "the attachments have {size} bytes, the limit is {MAX_ATTACHED}; the prompt was not accepted"
            ),
            "put them where the agent can read them, and name them in the prompt",
        ));
    }
    Ok(attachments.into())
}

/// Adds the names of its attachments to a prompt's text, for readers who do not get the attachments.
pub fn told<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let mut told = text.to_owned();
    for name in names {
        let line = if told.is_empty() { "" } else { "\n" };
        told.push_str(&format!("{line}(attached: {name})"));
    }
    told
}

fn one(request: AttachmentRequest) -> Result<Attachment, Error> {
    let AttachmentRequest { name, mime_type, uri, text, data } = request;
    let fits =
        |text: &str, most| (1..=most).contains(&text.chars().count()) && !text.contains(char::is_control);
    if !fits(&name, 200) {
        return Err(invalid("an attachment's name has 1 to 200 characters, none of them control characters"));
    }
    let content = match (text, data) {
        (Some(text), None) => Content::Text(text),
        (None, Some(data)) => match STANDARD.decode(&data) {
            Ok(_) => Content::Base64(data),
            Err(error) => return Err(invalid(format!("the data of {name:?} is not base64: {error}"))),
        },
        _ => return Err(invalid(format!("{name:?} has either a `text` or `data`"))),
    };
    let mime_type = mime_type.unwrap_or_else(|| match (mime_guess::from_path(&name).first_raw(), &content) {
        (Some(known), _) => known.to_owned(),
        (None, Content::Text(_)) => "text/plain".to_owned(),
        (None, Content::Base64(_)) => "application/octet-stream".to_owned(),
    });
    if !fits(&mime_type, 100) || !mime_type.contains('/') {
        return Err(invalid(format!("the media type of {name:?} is not one")));
    }
    let uri =
        uri.unwrap_or_else(|| format!("attachment:{}", name.replace(|c: char| !c.is_ascii_graphic(), "_")));
    if !fits(&uri, 2_000) {
        let what = "an attachment's URI has 1 to 2000 characters, none of them control characters";
        return Err(invalid(what));
    }
    let kind = match (mime_type.split('/').next(), &content) {
        // Agents take pictures and sounds as bytes; one that is written as text, such as SVG, is a file to them.
        (Some("image"), Content::Base64(_)) => AttachmentKind::Image,
        (Some("audio"), Content::Base64(_)) => AttachmentKind::Audio,
        _ => AttachmentKind::File,
    };
    Ok(Attachment { kind, name, mime_type, uri, content })
}

fn invalid(what: impl std::fmt::Display) -> Error {
    Error::invalid("invalid_attachment", format!("{what}; the prompt was not accepted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> AttachmentRequest {
        AttachmentRequest { name: name.into(), ..AttachmentRequest::default() }
    }

    fn bytes(name: &str, bytes: &[u8]) -> AttachmentRequest {
        AttachmentRequest { data: Some(STANDARD.encode(bytes)), ..named(name) }
    }

    fn text(name: &str, text: &str) -> AttachmentRequest {
        AttachmentRequest { text: Some(text.into()), ..named(name) }
    }

    #[test]
    fn what_an_attachment_is_follows_from_its_name_and_its_content() {
        for (request, kind, mime_type) in [
            (bytes("a.png", b"\x89PNG"), AttachmentKind::Image, "image/png"),
            (bytes("a.ogg", b"OggS"), AttachmentKind::Audio, "audio/ogg"),
            (text("a.svg", "<svg/>"), AttachmentKind::File, "image/svg+xml"),
            (text("notes", "words"), AttachmentKind::File, "text/plain"),
            (bytes("core", b"\x7fELF"), AttachmentKind::File, "application/octet-stream"),
            (
                AttachmentRequest { mime_type: Some("image/webp".into()), ..bytes("picture", b"RIFF") },
                AttachmentKind::Image,
                "image/webp",
            ),
        ] {
            let found = check(vec![request]).unwrap();
            assert_eq!((found[0].kind, &*found[0].mime_type), (kind, mime_type), "{found:?}");
        }
    }

    #[test]
    fn the_size_is_that_of_the_bytes_and_not_of_their_base64() {
        for length in 0..9 {
            assert_eq!(check(vec![bytes("a", &vec![b'x'; length])]).unwrap()[0].content.size(), length);
        }
        assert!(check(vec![bytes("a", &vec![0; MAX_ATTACHED])]).is_ok());
        let two = vec![bytes("a", &vec![0; MAX_ATTACHED]), text("b", "x")];
        assert_eq!(check(two).unwrap_err().code(), "attachments_too_large");
    }

    #[test]
    fn what_is_not_an_attachment_is_refused() {
        let both = AttachmentRequest { text: Some(String::new()), ..bytes("a", b"") };
        let broken = AttachmentRequest { data: Some("a".into()), ..named("a") };
        let typeless = AttachmentRequest { mime_type: Some("image".into()), ..text("a", "") };
        let nowhere = AttachmentRequest { uri: Some(String::new()), ..text("a", "") };
        for request in [
            named("a"),
            both,
            broken,
            typeless,
            nowhere,
            text("", "x"),
            text("a\n", "x"),
            text(&"x".repeat(201), "x"),
        ] {
            assert_eq!(check(vec![request.clone()]).unwrap_err().code(), "invalid_attachment", "{request:?}");
        }
        assert_eq!(check(vec![text("a", "x"); 17]).unwrap_err().code(), "invalid_attachment");
        assert!(check(vec![text("a", "x"); 16]).is_ok());
    }
}
