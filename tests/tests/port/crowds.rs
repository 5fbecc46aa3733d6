//! Many bad clients and one good one.

use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use super::{
    address, answer_to, client, connect, daemon, get, problem, read_until, refused, rest, session, status,
    tcp_from, tls_over,
};

#[test]
fn five_hundred_bad_connections_keep_nobody_from_being_answered() {
    let daemon = daemon("", "");
    let address = address(&daemon);
    let bearer = session(&daemon);
    // A good client that is there already, and one that comes each time.
    let mut good = tls_over(tcp_from([127, 0, 0, 9], address), client(&["http/1.1"], None));
    let ask = format!("GET /v1/sessions/s HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n");
    let mut bad: Vec<TcpStream> = Vec::new();
    for number in 0..500_u32 {
        // Half from one address, half from another each.
        let [.., b, c] = number.to_be_bytes();
        let from = if number % 2 == 0 { [127, 0, 0, 2] } else { [127, 1, b, c] };
        let mut stream = tcp_from(from, address);
        let begun: &[u8] = [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"GET", b"\xff"][number as usize % 4];
        stream.write_all(begun).unwrap();
        bad.push(stream);
        if number % 50 == 0 {
            good.write_all(ask.as_bytes()).unwrap();
            read_until(&mut good, "\"id\":\"s\"");
            let mut new = tls_over(tcp_from([127, 0, 0, 8], address), client(&["http/1.1"], None));
            new.write_all(get("/v1/sessions/s", &bearer).as_bytes()).unwrap();
            assert_eq!(status(&rest(&mut new)), 200);
            assert_eq!(daemon.show("s").id.as_str(), "s");
        }
    }
    assert!(refused(&daemon, "connections") > 100);
    good.write_all(ask.as_bytes()).unwrap();
    read_until(&mut good, "\"id\":\"s\"");
}

#[test]
fn wrong_secrets_of_a_pairing_count_as_wrong_keys() {
    let daemon = daemon("", "");
    let address = address(&daemon);
    let body = format!(r#"{{"name":"phone","secret":"AAAA-AAAA-AAAA-AAAA","key":"kk_{}A"}}"#, "A".repeat(42));
    let length = body.len();
    let head = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
    let guess = get("/v1/pair", &head).replacen("GET ", "POST ", 1) + &body;
    // Nobody pairs.
    for _ in 0..10 {
        assert_eq!(problem(&answer_to(address, &guess)), (403, "pairing_closed".into()));
    }
    assert_eq!(problem(&answer_to(address, &guess)), (429, "too_many_failures".into()));
    assert_eq!((refused(&daemon, "key"), refused(&daemon, "failures")), (10, 1));
}

#[test]
fn an_address_with_too_many_wrong_keys_is_refused_and_others_are_not() {
    let daemon = daemon("", "");
    let address = address(&daemon);
    let bearer = session(&daemon);
    // It has shown a good key, and stays.
    let mut good = connect(address);
    let ask = format!("GET /v1/sessions/s HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n");
    good.write_all(ask.as_bytes()).unwrap();
    read_until(&mut good, "\"id\":\"s\"");
    let wrong =
        get("/v1/sessions/s", "Authorization: Bearer AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n");
    let began = Instant::now();
    for _ in 0..10 {
        assert_eq!(problem(&answer_to(address, &wrong)), (401, "bad_token".into()));
    }
    for request in [&wrong, &get("/v1/sessions/s", &bearer)] {
        let answer = answer_to(address, request);
        assert_eq!(problem(&answer), (429, "too_many_failures".into()));
        let after = answer.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap();
        let after: u64 = after.parse().unwrap();
        assert!(after + began.elapsed().as_secs() >= 59 && after <= 61, "{after}");
    }
    good.write_all(ask.as_bytes()).unwrap();
    read_until(&mut good, "\"id\":\"s\"");
    // A device's key is looked at all the same, and a wrong one is refused as before.
    let key = daemon.ok(&["key", "create", "phone", "--role", "viewer"]);
    let with_key = |key: &str| get("/v1/sessions/s", &format!("Authorization: Bearer {key}\r\n"));
    assert_eq!(status(&answer_to(address, &with_key(key.trim()))), 200);
    let unknown = format!("kk_{}", "A".repeat(43));
    assert_eq!(problem(&answer_to(address, &with_key(&unknown))).1, "too_many_failures");
    let mut other = tls_over(tcp_from([127, 0, 0, 2], address), client(&["http/1.1"], None));
    other.write_all(get("/v1/sessions/s", &bearer).as_bytes()).unwrap();
    assert_eq!(status(&rest(&mut other)), 200);
    assert_eq!((refused(&daemon, "key"), refused(&daemon, "failures")), (10, 3));
    // A wrong key over the good connection: from then on it is like the others.
    good.write_all(wrong.replace("Connection: close\r\n", "").as_bytes()).unwrap();
    read_until(&mut good, "bad_token");
    good.write_all(ask.as_bytes()).unwrap();
    read_until(&mut good, "too_many_failures");
}
