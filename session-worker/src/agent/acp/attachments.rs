//! Attachments of a prompt, as content that the agent accepts (ACP: `promptCapabilities`,
//! <https://agentclientprotocol.com/protocol/v1/content>).

use protocol::wire::{Attachment, AttachmentKind, Content};
use serde_json::{Value, json};

use super::message::beginning;

/// Kinds of attachments that an agent accepts, beside texts and links.
#[derive(Clone, Copy, Debug, Default)]
pub struct Takes {
    image: bool,
    audio: bool,
    files: bool,
}

impl Takes {
    /// Reads the kinds from the agent's `promptCapabilities`.
    pub fn told(capabilities: &Value) -> Self {
        let able = |name| capabilities[name] == true;
        Self { image: able("image"), audio: able("audio"), files: able("embeddedContext") }
    }

    /// Makes a block of content of each attachment. The error, for a person, names the kind that the agent does not
    /// accept.
    pub fn blocks(self, attachments: &[Attachment]) -> Result<Vec<Value>, String> {
        attachments.iter().map(|attachment| self.block(attachment)).collect()
    }

    fn block(self, attachment: &Attachment) -> Result<Value, String> {
        let Attachment { kind, name, mime_type, uri, content } = attachment;
        let refused = |what: &str| {
            let name = beginning(name);
            Err(format!("the agent takes no {what} ({name}); the prompt was not given to it"))
        };
        match (kind, content) {
            (AttachmentKind::Image, Content::Base64(data)) if self.image => {
                Ok(json!({ "type": "image", "mimeType": mime_type, "data": data, "uri": uri }))
            }
            (AttachmentKind::Audio, Content::Base64(data)) if self.audio => {
                Ok(json!({ "type": "audio", "mimeType": mime_type, "data": data }))
            }
            (AttachmentKind::Image, Content::Base64(_)) => refused("pictures"),
            (AttachmentKind::Audio, Content::Base64(_)) => refused("sounds"),
            (_, Content::Text(text)) if self.files => {
                let resource = json!({ "uri": uri, "mimeType": mime_type, "text": text });
                Ok(json!({ "type": "resource", "resource": resource }))
            }
            // All agents take texts.
            (_, Content::Text(text)) => {
                Ok(json!({ "type": "text", "text": format!("The file {name} ({uri}):\n\n{text}") }))
            }
            (AttachmentKind::File, Content::Base64(blob)) if self.files => {
                let resource = json!({ "uri": uri, "mimeType": mime_type, "blob": blob });
                Ok(json!({ "type": "resource", "resource": resource }))
            }
            (AttachmentKind::File, Content::Base64(_)) => refused("files that are not texts"),
        }
    }
}
