//! The blocks of an editor's prompt as text and attachments.

use agent_client_protocol::v1::schema::{ContentBlock, EmbeddedResourceResource};
use protocol::api::AttachmentRequest;

/// The prompt of an editor's user.
#[derive(Debug, Default, PartialEq)]
pub struct Content {
    /// Its text; each block begins on a line of its own.
    pub text: String,
    /// Files, pictures and sounds that belong to the text.
    pub attachments: Vec<AttachmentRequest>,
    /// All of it in one text, for an agent that takes nothing else. None if it cannot be.
    pub inline: Option<String>,
}

/// A prompt of an editor.
pub fn read(blocks: &[ContentBlock]) -> Result<Content, String> {
    let mut content = Content { inline: Some(String::new()), ..Content::default() };
    for block in blocks {
        match block {
            ContentBlock::Text(block) => content.add(&block.text, &block.text),
            ContentBlock::ResourceLink(link) => content.add(&link.uri, &link.uri),
            ContentBlock::Resource(embedded) => {
                let (uri, mime_type, text, data) = match &embedded.resource {
                    EmbeddedResourceResource::TextResourceContents(resource) => {
                        (&resource.uri, &resource.mime_type, Some(resource.text.clone()), None)
                    }
                    EmbeddedResourceResource::BlobResourceContents(resource) => {
                        (&resource.uri, &resource.mime_type, None, Some(resource.blob.clone()))
                    }
                    _ => return Err(refused()),
                };
                match &text {
                    Some(text) => content.add(uri, &format!("{uri}:\n{text}")),
                    None => content.inline = None,
                }
                content.attach(
                    Some(uri),
                    "file",
                    AttachmentRequest { mime_type: mime_type.clone(), text, data, ..Default::default() },
                );
            }
            ContentBlock::Image(image) => {
                let (mime_type, data) = (Some(image.mime_type.clone()), Some(image.data.clone()));
                content.inline = None;
                let request = AttachmentRequest { mime_type, data, ..Default::default() };
                content.attach(image.uri.as_deref(), "picture", request);
            }
            ContentBlock::Audio(audio) => {
                let (mime_type, data) = (Some(audio.mime_type.clone()), Some(audio.data.clone()));
                content.inline = None;
                let request = AttachmentRequest { mime_type, data, ..Default::default() };
                content.attach(None, "sound", request);
            }
            _ => return Err(refused()),
        }
    }
    Ok(content)
}

impl Content {
    fn add(&mut self, short: &str, whole: &str) {
        let texts =
            std::iter::once((&mut self.text, short)).chain(self.inline.as_mut().map(|all| (all, whole)));
        for (all, new) in texts {
            if !all.is_empty() && !all.ends_with('\n') {
                all.push('\n');
            }
            all.push_str(new);
        }
    }

    /// Its name is the end of its URI, if it has one.
    fn attach(&mut self, uri: Option<&str>, what: &str, mut request: AttachmentRequest) {
        let named = uri.and_then(|uri| uri.trim_end_matches('/').rsplit(['/', ':']).next());
        let name = named.filter(|name| !name.is_empty()).unwrap_or(what);
        request.name = name.chars().filter(|c| !c.is_control()).take(200).collect();
        request.uri = uri.map(str::to_owned);
        self.attachments.push(request);
    }
}

fn refused() -> String {
    "kennel does not know a type of content in this prompt. Nothing was sent".to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn blocks_of_a_prompt_begin_on_lines_of_their_own() {
        let blocks = |value: Value| serde_json::from_value::<Vec<ContentBlock>>(value).unwrap();
        let mut prompt = blocks(json!([
            { "type": "text", "text": "look at" },
            { "type": "resource_link", "name": "a.rs", "uri": "file:///a.rs" },
            { "type": "resource", "resource": { "uri": "file:///src/b.rs", "text": "fn b() {}\n" } },
            { "type": "text", "text": "please" },
        ]));
        let found = read(&prompt).unwrap();
        assert_eq!(found.text, "look at\nfile:///a.rs\nfile:///src/b.rs\nplease");
        let inline = "look at\nfile:///a.rs\nfile:///src/b.rs:\nfn b() {}\nplease";
        assert_eq!(found.inline.as_deref(), Some(inline));
        let [file] = &found.attachments[..] else { panic!("{found:?}") };
        let is = (&*file.name, file.uri.as_deref(), file.text.as_deref(), file.data.as_deref());
        assert_eq!(is, ("b.rs", Some("file:///src/b.rs"), Some("fn b() {}\n"), None));
        prompt.extend(blocks(json!([
            { "type": "image", "mimeType": "image/png", "data": "AA==" },
            { "type": "audio", "mimeType": "audio/wav", "data": "AA==" },
            { "type": "resource", "resource": { "uri": "mem:x", "blob": "AA==" } },
        ])));
        let found = read(&prompt).unwrap();
        // A prompt with a picture has no form as one text.
        assert_eq!(found.inline, None);
        let names: Vec<&str> = found.attachments.iter().map(|it| &*it.name).collect();
        assert_eq!(names, ["b.rs", "picture", "sound", "x"]);
    }
}
