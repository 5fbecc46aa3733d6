//! One prompt to `/v1/acp` by the WebSocket client of the protocol's own makers.
//!
//! `sdk-client URL CA DIR TEXT`, with a device's key in the environment (`KEY`): opens a session in DIR, asks, and prints what was said.

use std::sync::{Arc, Mutex};

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{
    ContentBlock, InitializeRequest, NewSessionRequest, PromptRequest, SessionNotification, SessionUpdate, TextContent,
};
use agent_client_protocol::{Agent, Client};
use agent_client_protocol_http::HttpClient;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, ca, dir, text] = &args[..] else { return Err("sdk-client URL CA DIR TEXT".into()) };
    let ca = reqwest::Certificate::from_pem(&std::fs::read(ca)?)?;
    let mut key = HeaderValue::from_str(&format!("Bearer {}", std::env::var("KEY")?))?;
    key.set_sensitive(true);
    let headers = HeaderMap::from_iter([(AUTHORIZATION, key)]);
    let server = HttpClient::builder_with_endpoint(url)
        .configure_http(|http| http.no_proxy().tls_certs_only([ca]).default_headers(headers))
        .build()?;

    let said = Arc::new(Mutex::new(String::new()));
    let heard = said.clone();
    let (dir, text) = (dir.clone(), text.clone());
    let client = Client.v1().on_receive_notification(
        async move |notification: SessionNotification, _connection| {
            if let SessionUpdate::AgentMessageChunk(chunk) = notification.update
                && let ContentBlock::Text(text) = chunk.content
            {
                heard.lock().unwrap().push_str(&text.text);
            }
            Ok(())
        },
        agent_client_protocol::on_receive_notification!(),
    );
    let stopped = client.connect_with(server, |connection: ConnectionTo<Agent>| async move {
        connection.send_request(InitializeRequest::new(ProtocolVersion::V1)).block_task().await?;
        let session = connection.send_request(NewSessionRequest::new(dir)).block_task().await?.session_id;
        let prompt = PromptRequest::new(session, vec![ContentBlock::Text(TextContent::new(text))]);
        Ok(connection.send_request(prompt).block_task().await?.stop_reason)
    });
    let stopped = stopped.await?;
    println!("{}", said.lock().unwrap());
    println!("{stopped:?}");
    Ok(())
}
