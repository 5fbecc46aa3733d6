//! Attachments of a prompt.

use serde::{Deserialize, Serialize};

/// An attachment of a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Kind of the attachment.
    pub kind: AttachmentKind,
    /// Name for people: a file name.
    pub name: String,
    /// Media type (RFC 6838).
    pub mime_type: String,
    /// URI of the source.
    pub uri: String,
    /// Content of the attachment.
    pub content: Content,
}

/// Kind of an attachment. An agent may support some kinds and not others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum AttachmentKind {
    /// An image.
    Image,
    /// A sound recording.
    Audio,
    /// A file of any other type.
    File,
}

/// Content of an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A text.
    Text(String),
    /// Bytes in base64 (RFC 4648, section 4), as in HTTP and ACP.
    Base64(String),
}

impl Content {
    /// Returns the size of the content, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Content::Text(text) => text.len(),
            Content::Base64(data) => {
                data.len() / 4 * 3 - data.bytes().rev().take_while(|byte| *byte == b'=').count()
            }
        }
    }
}
