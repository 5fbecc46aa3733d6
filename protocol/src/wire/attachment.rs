//! Attachments of a prompt.

use serde::{Deserialize, Serialize};

/// Something that belongs to a prompt, beside its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Which sort of thing it is to an agent.
    pub kind: AttachmentKind,
    /// What people call it: a file's name.
    pub name: String,
    /// Its media type (RFC 6838).
    pub mime_type: String,
    /// Where it came from.
    pub uri: String,
    /// What is in it.
    pub content: Content,
}

/// Which sort of thing an attachment is to an agent, which may take some of them and not others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum AttachmentKind {
    /// A picture.
    Image,
    /// A sound.
    Audio,
    /// A file of any other type.
    File,
}

/// What is in an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A text.
    Text(String),
    /// Bytes, in base64 (RFC 4648, section 4): as they come over HTTP and as ACP has them.
    Base64(String),
}

impl Content {
    /// How many bytes there are in it.
    pub fn size(&self) -> usize {
        match self {
            Content::Text(text) => text.len(),
            Content::Base64(data) => {
                data.len() / 4 * 3 - data.bytes().rev().take_while(|byte| *byte == b'=').count()
            }
        }
    }
}
