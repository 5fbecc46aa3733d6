//! The book and the pairing by tables and by chance, the file, and all of them together.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::pairing::MISSES;
use super::*;

fn grant(name: &str) -> Grant {
    Grant {
        name: Some(name.into()),
        role: KeyRole::Driver,
        sessions: KeySessions::All,
        expires_at: None,
        browser: false,
    }
}

fn ids(count: usize) -> KeySessions {
    KeySessions::Ids((0..count as u64).map(protocol::SessionId::numbered).collect())
}

fn labels(label: &str, count: usize) -> KeySessions {
    let label = |number: usize| if number == 0 { label.to_owned() } else { format!("{label}-{number}") };
    KeySessions::Labels((0..count).map(|number| (label(number), "web".to_owned())).collect())
}

fn hash(number: u8) -> Hash {
    [number; 32]
}

/// A book with an admin's key that expires at 1,000.
fn with_admin() -> (Book, Key) {
    let grant = Grant { role: KeyRole::Admin, expires_at: Some(1_000), ..grant("admin") };
    let (book, id) = Book::default().issue(10, &grant, None, hash(1)).unwrap();
    let key = book.get(id).unwrap().clone();
    (book, key)
}

#[test]
fn what_a_key_may_be() {
    let (book, admin) = with_admin();
    let full = (0..KEYS as u32).fold(Book::default(), |book, number| {
        let mut hash = Hash::default();
        hash[..4].copy_from_slice(&number.to_be_bytes());
        book.issue(0, &grant("x"), None, hash).unwrap().0
    });
    let long = "x".repeat(101);
    let all = KeySessions::All;
    for (what, name, role, sessions, expires_at, maker, expected) in [
        ("plain", "laptop", KeyRole::Driver, all.clone(), None, None, Ok(())),
        ("viewer of its own", "x", KeyRole::Viewer, KeySessions::Own, Some(21), None, Ok(())),
        ("listed", "x", KeyRole::Driver, ids(100), None, None, Ok(())),
        ("an admin", "x", KeyRole::Admin, all.clone(), None, None, Ok(())),
        ("no name", "", KeyRole::Driver, all.clone(), None, None, Err(Denied::Name)),
        ("a long name", &long, KeyRole::Driver, all.clone(), None, None, Err(Denied::Name)),
        ("a name that drives", "\u{1b}[2J", KeyRole::Driver, all.clone(), None, None, Err(Denied::Name)),
        ("no sessions", "x", KeyRole::Driver, ids(0), None, None, Err(Denied::Ids)),
        ("many sessions", "x", KeyRole::Driver, ids(101), None, None, Err(Denied::Ids)),
        ("an admin of some", "x", KeyRole::Admin, ids(1), None, None, Err(Denied::AdminOfSome)),
        ("by labels", "x", KeyRole::Driver, labels("team", 32), None, None, Ok(())),
        ("no labels", "x", KeyRole::Viewer, labels("team", 0), None, None, Err(Denied::Labels)),
        ("many labels", "x", KeyRole::Viewer, labels("team", 33), None, None, Err(Denied::Labels)),
        ("no label", "x", KeyRole::Viewer, labels("a team", 1), None, None, Err(Denied::Labels)),
        ("an admin by labels", "x", KeyRole::Admin, labels("team", 1), None, None, Err(Denied::AdminOfSome)),
        ("an admin of its own", "x", KeyRole::Admin, KeySessions::Own, None, None, Err(Denied::AdminOfSome)),
        ("already over", "x", KeyRole::Driver, all.clone(), Some(20), None, Err(Denied::Past)),
        ("as long as its maker", "x", KeyRole::Admin, all.clone(), Some(1_000), Some(&admin), Ok(())),
        ("longer", "x", KeyRole::Viewer, all.clone(), Some(1_001), Some(&admin), Err(Denied::Outlasts)),
        ("for ever", "x", KeyRole::Viewer, all.clone(), None, Some(&admin), Err(Denied::Outlasts)),
    ] {
        let wish = Grant { name: Some(name.into()), role, sessions, expires_at, browser: false };
        assert_eq!(book.issue(20, &wish, maker, hash(9)).map(drop), expected, "{what}");
        let full = full.issue(20, &wish, maker, hash(9)).map(drop);
        assert_eq!(full, expected.and(Err(Denied::Full)), "{what}");
    }
    assert_eq!(book.issue(20, &grant("x"), None, hash(1)), Err(Denied::Taken));
}

#[test]
fn revoked_expired_and_rotated_keys_let_nobody_in() {
    let (book, admin) = with_admin();
    let (book, id) = book.issue(20, &grant("x"), None, hash(2)).unwrap();
    let key = book.find(&hash(2)).unwrap().clone();
    assert!(book.has(&key) && !key.has_expired(u64::MAX));
    assert!(!admin.has_expired(999) && admin.has_expired(1_000));
    let rotated = book.rotate(id, None, hash(3)).unwrap();
    assert!(rotated.find(&hash(2)).is_none() && !rotated.has(&key));
    assert_eq!(rotated.find(&hash(3)).map(|key| key.id), Some(id));
    assert_eq!(book.rotate(id, Some(&admin), hash(3)), Err(Denied::Outlasts));
    assert_eq!(book.rotate(id, None, hash(1)), Err(Denied::Taken));
    let revoked = rotated.revoke(id).unwrap();
    assert!(revoked.find(&hash(3)).is_none());
    assert_eq!(revoked.revoke(id), Err(Denied::NoSuchKey(id)));
    assert_eq!(revoked.rotate(id, None, hash(4)), Err(Denied::NoSuchKey(id)));
    // Its number is not used again.
    assert_eq!(revoked.issue(30, &grant("y"), None, hash(2)).unwrap().1, KeyId(id.0 + 1));
}

#[derive(Clone, Debug)]
enum Step {
    Issue(u8, Option<u64>),
    Revoke(u64),
    Rotate(u64, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (any::<u8>(), proptest::option::of(0..50_u64)).prop_map(|(hash, until)| Step::Issue(hash, until)),
        (0..12_u64).prop_map(Step::Revoke),
        (0..12_u64, any::<u8>()).prop_map(|(id, hash)| Step::Rotate(id, hash)),
    ]
}

proptest! {
    #[test]
    fn a_hash_opens_one_key_and_numbers_only_grow(steps in proptest::collection::vec(step(), 0..60)) {
        let mut book = Book::default();
        // The hash of each living key, by what was done.
        let mut expected: BTreeMap<u64, u8> = BTreeMap::new();
        for (now, step) in (10_u64..).zip(steps) {
            let before = book.last();
            match step {
                Step::Issue(number, expires_at) => {
                    let wish = Grant { expires_at, ..grant("x") };
                    match book.issue(now, &wish, None, hash(number)) {
                        Ok((next, id)) => {
                            prop_assert_eq!(id.0, before + 1);
                            prop_assert!(expected.insert(id.0, number).is_none());
                            book = next;
                        }
                        Err(Denied::Past) => prop_assert!(expires_at.is_some_and(|at| at <= now)),
                        Err(Denied::Taken) => prop_assert!(expected.values().any(|own| *own == number)),
                        Err(other) => prop_assert!(false, "{:?}", other),
                    }
                }
                Step::Revoke(id) => match book.revoke(KeyId(id)) {
                    Ok(next) => {
                        prop_assert!(expected.remove(&id).is_some());
                        book = next;
                    }
                    Err(_) => prop_assert!(!expected.contains_key(&id)),
                },
                Step::Rotate(id, number) => match book.rotate(KeyId(id), None, hash(number)) {
                    Ok(next) => {
                        prop_assert!(expected.insert(id, number).is_some());
                        book = next;
                    }
                    Err(Denied::NoSuchKey(_)) => prop_assert!(!expected.contains_key(&id)),
                    Err(_) => prop_assert!(expected.values().any(|own| *own == number)),
                },
            }
            prop_assert!(book.last() >= before);
            for number in 0..=u8::MAX {
                let found = book.find(&hash(number)).map(|key| key.id.0);
                let own = expected.iter().find(|(_, own)| **own == number).map(|(id, _)| *id);
                prop_assert_eq!(found, own);
            }
            // As a file has it, it is the same.
            let again = Book::load(book.last(), book.keys().cloned().collect());
            prop_assert_eq!(again.as_ref(), Ok(&book));
        }
    }

    #[test]
    fn a_secret_lets_one_device_in_and_five_misses_nobody(
        tries in proptest::collection::vec((0..3_u8, 0..3_u8, 0..VALID_MS / 4), 0..20)
    ) {
        let right = hash(0);
        let mut pairing = Pairing::default().begin(0, right, grant("x"), None);
        let (mut now, mut misses, mut device, mut expired) = (0, 0, None, false);
        for (secret, key, later) in tries {
            now += later;
            let (next, verdict) = pairing.finish(now, &hash(secret), &hash(key));
            expired |= device.is_none() && misses < MISSES && now >= VALID_MS;
            let expected = match (device, secret) {
                (Some(own), 0) if own == key && now < VALID_MS => Verdict::Again(KeyId(7)),
                (Some(_), _) => Verdict::Closed(Closed::Used),
                (None, _) if expired => Verdict::Closed(Closed::Expired),
                (None, _) if misses >= MISSES => Verdict::Closed(Closed::Locked),
                (None, 0) => Verdict::Grant(grant("x")),
                (None, _) => Verdict::Wrong,
            };
            prop_assert_eq!(&verdict, &expected);
            pairing = next;
            match verdict {
                Verdict::Grant(_) => {
                    pairing = pairing.paired(hash(key), KeyId(7));
                    device = Some(key);
                }
                Verdict::Wrong => misses += 1,
                Verdict::Again(_) | Verdict::Closed(_) => {}
            }
        }
    }
}

#[test]
fn a_pairing_is_ended_replaced_and_told_by_its_number() {
    let none = Pairing::default();
    assert_eq!(none.finish(0, &hash(0), &hash(0)).1, Verdict::Closed(Closed::None));
    let one = none.begin(100, hash(0), grant("x"), None);
    assert_eq!(
        (one.number, one.state(1, 100).0, one.state(0, 100).0),
        (1, PairingState::Open, PairingState::Ended)
    );
    assert_eq!((one.left(1, 100), one.left(2, 100)), (VALID_MS, 0));
    assert_eq!(one.state(1, 100 + VALID_MS).0, PairingState::Expired);
    assert_eq!(one.end().finish(100, &hash(0), &hash(0)).1, Verdict::Closed(Closed::None));
    let paired = one.paired(hash(5), KeyId(3));
    assert_eq!(paired.state(1, u64::MAX), (PairingState::Paired, Some(KeyId(3))));
    assert_eq!(paired.end(), paired);
    // The device that repeats its request gets the same; another one, or a later time, does not.
    assert_eq!(paired.finish(200, &hash(0), &hash(5)).1, Verdict::Again(KeyId(3)));
    assert_eq!(paired.finish(200, &hash(0), &hash(6)).1, Verdict::Closed(Closed::Used));
    let two = paired.begin(200, hash(1), grant("y"), None);
    assert_eq!((two.state(1, 200).0, two.state(2, 200).0), (PairingState::Ended, PairingState::Open));
    assert_eq!(two.finish(200, &hash(0), &hash(5)).1, Verdict::Wrong);
}

#[tokio::test]
async fn the_file_is_its_owners_and_has_hashes_only() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let keys = Keys::open(dir.path());
    assert_eq!(keys.list(), Ok(Vec::new()));
    let secret = new_key().unwrap();
    // A manager that was killed has left half a file, which anybody may read.
    let left = dir.path().join(".keys.json.new");
    fs::write(&left, "{").unwrap();
    let wish = Grant { sessions: ids(2), expires_at: Some(u64::MAX / 4_000_000), ..grant("laptop") };
    let made = keys.issue(wish, None, hash_of_key(&secret).unwrap()).await.unwrap();
    let path = dir.path().join("keys.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains(&secret) && !text.contains(&secret[3..]), "{text}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!left.exists());
    keys.used(made.id, "192.0.2.7");
    // The first use is written at once, by a task of its own.
    let level = async {
        while !fs::read_to_string(&path).unwrap().contains("192.0.2.7") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), level).await.unwrap();

    let again = Keys::open(dir.path());
    let found = again.find(&hash_of_key(&secret).unwrap()).unwrap().unwrap();
    assert_eq!(again.info(&found), keys.info(&found));
    assert_eq!(again.info(&found).last_used_from.as_deref(), Some("192.0.2.7"));
    again.revoke(found.id).await.unwrap();
    let last = Keys::open(dir.path());
    assert_eq!(last.list(), Ok(Vec::new()));
    let next = last.issue(grant("x"), None, hash(1)).await.unwrap();
    assert_eq!(next.id, KeyId(2), "a number is not used again");
}

#[tokio::test]
async fn a_file_with_a_key_for_labels_is_one_that_earlier_versions_refuse_by_its_number() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let keys = Keys::open(dir.path());
    let version = || {
        let text = fs::read_to_string(dir.path().join("keys.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["version"].clone()
    };
    keys.issue(grant("laptop"), None, hash(1)).await.unwrap();
    assert_eq!(version(), 1);
    let by_labels = Grant { sessions: labels("team", 1), ..grant("team") };
    let made = keys.issue(by_labels, None, hash(2)).await.unwrap();
    assert_eq!(version(), 2);
    let again = Keys::open(dir.path());
    assert_eq!(again.find(&hash(2)).unwrap().unwrap().sessions, labels("team", 1));
    again.revoke(made.id).await.unwrap();
    assert_eq!(version(), 1, "it has no key for labels any more");
}

#[test]
fn browsers_have_few_keys_and_one_that_has_expired_makes_room() {
    let browser = |ends_at: u64| Grant { browser: true, expires_at: Some(ends_at), ..grant("browser") };
    let mut book = Book::default();
    for number in 0..BROWSERS as u8 {
        book = book.issue(0, &browser(1_000 + u64::from(number)), None, hash(number)).unwrap().0;
    }
    assert_eq!(book.issue(999, &browser(5_000), None, hash(200)).unwrap_err(), Denied::Browsers);
    let (book, _) =
        book.issue(999, &grant("device"), None, hash(200)).expect("a device's key is another thing");
    let (book, _) = book.issue(1_001, &browser(5_000), None, hash(201)).unwrap();
    assert_eq!(book.keys().filter(|key| key.browser).count(), BROWSERS - 1);
    assert!(book.find(&hash(0)).is_none() && book.find(&hash(2)).is_some());
}

#[tokio::test]
async fn a_ticket_gives_one_browser_a_key_that_the_file_knows_as_a_browsers() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let keys = Keys::open(dir.path());
    let wish = Grant { name: None, browser: true, ..grant("x") };
    keys.offer(wish, None, hash(1)).await.unwrap();
    assert_eq!(keys.log_in(&hash(2), "n", hash(9), "f").await, Err(KeysError::NoTicket));
    let made = keys.log_in(&hash(1), "of its own", hash(9), "127.0.0.1").await.unwrap();
    assert!(made.browser && made.name == "of its own");
    assert_eq!(keys.log_in(&hash(1), "n", hash(8), "f").await, Err(KeysError::NoTicket), "once");
    let text = fs::read_to_string(dir.path().join("keys.json")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["version"], 3);
    assert!(Keys::open(dir.path()).find(&hash(9)).unwrap().is_some_and(|key| key.browser));
}

#[tokio::test]
async fn a_broken_file_lets_nobody_in_and_is_left_alone() {
    let key = |id: u64, hash: char| {
        format!(
            r#"{{"id":"key-{id}","name":"x","role":"driver","sessions":"all","created_at":"2026-01-01T00:00:00Z","sha256":"{}"}}"#,
            hash.to_string().repeat(64)
        )
    };
    let whole =
        |last: u64, keys: &[String]| format!(r#"{{"version":1,"last":{last},"keys":[{}]}}"#, keys.join(","));
    let good = whole(2, &[key(1, 'a'), key(2, 'b')]);
    for text in [
        "".to_owned(),
        "{".into(),
        "[]".into(),
        "null".into(),
        good[..good.len() - 2].into(),
        good.replace("\"version\":1", "\"version\":4"),
        good.replacen("\"all\"", "{\"labels\":{}}", 1),
        whole(1, &[key(1, 'a'), key(2, 'b')]),
        whole(2, &[key(1, 'a'), key(1, 'b')]),
        whole(2, &[key(1, 'a'), key(2, 'a')]),
        whole(2, &[key(0, 'a')]),
        whole(2, &[key(1, 'g')]),
        good.replace("\"all\"", "\"some\""),
        good.replace("\"driver\"", "\"admin\"").replace("\"all\"", "\"own\""),
        good.replace("\"x\"", "\"\""),
        good.replace(&"a".repeat(64), "aa"),
        "[".repeat(100_000),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        fs::write(&path, &text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let keys = Keys::open(dir.path());
        assert!(matches!(keys.find(&hash(0xaa)), Err(KeysError::Unread(_))), "{text:.200}");
        let refused = keys.issue(grant("x"), None, hash(1)).await;
        assert!(matches!(refused, Err(KeysError::Unread(_))), "{text:.200}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    fs::write(&path, &good).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(Keys::open(dir.path()).list(), Err(KeysError::Unread(_))), "others can read it");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(Keys::open(dir.path()).list().map(|keys| keys.len()), Ok(2));
}

#[tokio::test]
async fn what_cannot_be_written_is_not_so() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::open(dir.path());
    keys.issue(grant("x"), None, hash(1)).await.unwrap();
    // A directory in the way of the new file: nobody can write it, not even root.
    fs::create_dir(dir.path().join(".keys.json.new")).unwrap();
    assert!(matches!(keys.issue(grant("y"), None, hash(2)).await, Err(KeysError::Unwritten(_))));
    assert!(matches!(keys.revoke(KeyId(1)).await, Err(KeysError::Unwritten(_))));
    assert_eq!(keys.find(&hash(2)), Ok(None));
    assert!(keys.find(&hash(1)).unwrap().is_some());
    let secret = hash(9);
    assert!(!keys.begin(grant("z"), None, secret).await.unwrap().replaces);
    assert!(matches!(keys.finish(&secret, "z", hash(3), "socket").await, Err(KeysError::Unwritten(_))));
    fs::remove_dir(dir.path().join(".keys.json.new")).unwrap();
    // The secret was not used up.
    assert_eq!(keys.finish(&secret, "z", hash(3), "socket").await.map(|info| info.id), Ok(KeyId(2)));
    // One that has ended is replaced by nobody; one that is open is, and says so.
    for replaces in [false, true] {
        assert_eq!(keys.begin(grant("z"), None, secret).await.unwrap().replaces, replaces);
    }
}

#[tokio::test]
async fn a_key_ends_for_whoever_waits() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::open(dir.path());
    let within = Duration::from_secs(20);
    for end in ["revoked", "rotated", "expired"] {
        let expires_at = (end == "expired").then(|| wall_ms() + 50);
        let made = keys.issue(Grant { expires_at, ..grant(end) }, None, hash(1)).await.unwrap();
        let key = keys.find(&hash(1)).unwrap().unwrap();
        let (ended, waiting) = (keys.ended(&key), keys.clone());
        let change = async {
            // Another key's fate is none of its business.
            waiting.issue(grant("other"), None, hash(2)).await.unwrap();
            match end {
                "revoked" => waiting.revoke(made.id).await.unwrap(),
                "rotated" => drop(waiting.rotate(made.id, None, hash(3)).await.unwrap()),
                _ => {}
            }
        };
        tokio::join!(async { tokio::time::timeout(within, ended).await.expect(end) }, change);
        for key in keys.list().unwrap() {
            keys.revoke(key.id).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_pairing_ends_with_the_key_that_has_begun_it() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::open(dir.path());
    let admin = |name: &str| Grant { role: KeyRole::Admin, ..grant(name) };
    let text = new_key().unwrap();
    let info = keys.issue(admin("thief"), None, hash_of_key(&text).unwrap()).await.unwrap();
    let thief = keys.book().unwrap().get(info.id).unwrap().clone();
    keys.begin(admin("another"), Some(&thief), hash(7)).await.unwrap();
    keys.revoke(info.id).await.unwrap();
    let device = hash_of_key(&new_key().unwrap()).unwrap();
    assert!(matches!(keys.finish(&hash(7), "x", device, "here").await, Err(KeysError::Closed(_))));
    // What the key had asked for before it ended comes too late.
    assert!(keys.begin(admin("another"), Some(&thief), hash(8)).await.is_err());
    assert!(keys.issue(admin("another"), Some(&thief), device).await.is_err());
    assert!(keys.list().unwrap().is_empty());
}
