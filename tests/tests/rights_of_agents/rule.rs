//! The core's rule: no child is weaker than its parent.

fn some_walls() -> impl Strategy<Value = Option<Walls>> {
    let places = || {
        prop::collection::vec(
            prop::sample::select(vec!["/h/.a", "/h/.a/b", "/h/.a/b/c", "/h/d", "/w/x"]),
            0..4,
        )
    };
    let kind = prop::sample::select(vec![Sandbox::Workdir, Sandbox::Strict]);
    let walls = (kind, any::<bool>(), places(), places()).prop_map(|(sandbox, program, hidden, writable)| {
        let owned = |places: Vec<&str>| places.into_iter().map(str::to_owned).collect();
        let program = program.then(|| "/usr/bin/bwrap".to_owned());
        Walls { sandbox, program, hidden: owned(hidden), writable: owned(writable), ..Walls::default() }
    });
    prop::option::of(walls)
}

fn some_policy() -> impl Strategy<Value = PermissionPolicy> {
    use PermissionPolicy::*;
    prop::sample::select(vec![Park, Allow, Deny, Fail])
}

prop_compose! {
    fn some_spec()(
        walls in some_walls(),
        acp in any::<bool>(),
        (policy, rule) in (some_policy(), prop::option::of(some_policy())),
        limits in (prop::option::of(0u32..20), prop::option::of(32u64..100), prop::option::of(1u64..50), prop::option::of(8u32..60), prop::option::of(10u32..90)),
        turn_timeout_ms in prop::sample::select(vec![0u64, 1_000, 5_000]),
        containment in prop::sample::select(vec![Containment::Auto, Containment::PidNamespace, Containment::Subreaper]),
        workdir in prop::sample::select(vec!["/w", "/w/x", "/w/x/y", "/wide", "/"]),
        env_pass in prop::sample::subsequence(vec!["A", "B", "C"], 0..3),
        offered in any::<bool>(),
    ) -> Spec {
        let mut spec = if acp { sample::acp_spec() } else { sample::spec() };
        spec.permissions.policy = policy;
        spec.permissions.rules = rule.into_iter().map(|then| PermissionRule { kind: Some("read".into()), path: None, then }).collect();
        let (nice, nofile, memory_bytes, pids, milli_cpus) = limits;
        spec.limits = Limits { nice, nofile, memory_bytes, pids, milli_cpus };
        spec.env_pass = env_pass.into_iter().map(str::to_owned).collect();
        spec.subagents.offered = offered;
        Spec { walls, turn_timeout_ms, containment, workdir: workdir.into(), ..spec }
    }
}

/// Returns true if this session does it without asking for permission.
fn does(spec: &Spec, kind: &str) -> bool {
    let ask = manager::protocol::wire::PermissionAsk { kind: Some(kind.into()), ..sample::ask() };
    match spec.agent {
        Agent::Shell | Agent::Command { .. } => true,
        Agent::Acp { .. } => spec.permissions.policy_for(&ask, &spec.workdir) == PermissionPolicy::Allow,
    }
}

use harness::sample;
use manager::core::{PermissionRule, Spec, Wish};
use manager::protocol::api::{PermissionPolicy, SessionOpts};
use manager::protocol::wire::Agent;
use manager::protocol::{Containment, Limits, Sandbox, Walls};
use proptest::prelude::*;

proptest! {
    #[test]
    fn whatever_is_asked_for_is_no_weaker_or_refused(specs in prop::collection::vec(some_spec(), 2..5), named in any::<bool>()) {
        let root = specs[0].clone();
        let mut parent = root.clone();
        for child in &specs[1..] {
            let given = if named {
                SessionOpts { memory_bytes: child.limits.memory_bytes, pids: child.limits.pids, nice: child.limits.nice, ..SessionOpts::default() }
            } else {
                SessionOpts::default()
            };
            let wish = Wish { given: given.clone(), worktrees: None };
            let Ok(made) = parent.below(child, &wish) else { continue };
            for above in [&parent, &root] {
                prop_assert_eq!(made.weaker_than(above), Vec::<&str>::new());
                for kind in ["read", "edit"] {
                    prop_assert!(!does(&made, kind) || does(above, kind), "{} by {:?}", kind, made.permissions);
                }
                prop_assert!(above.walls.is_none() || made.walls.is_some());
                let most = &above.limits;
                prop_assert!(most.memory_bytes.is_none_or(|most| made.limits.memory_bytes.is_some_and(|own| own <= most)));
                prop_assert!(above.walls.is_none() || made.env_pass.iter().all(|name| above.env_pass.contains(name)));
            }
            // An option that was given and not refused has the given value.
            if let Some(memory) = given.memory_bytes {
                prop_assert_eq!(made.limits.memory_bytes, Some(memory));
            }
            // Made again it is the same.
            let again = parent.below(&made, &wish);
            prop_assert_eq!(again.map(|again| again.limits), Ok(made.limits));
            parent = made;
        }
    }
}

#[test]
fn each_way_to_be_weaker_has_its_name() {
    let walls = |hidden: &[&str], writable: &[&str]| {
        let owned = |places: &[&str]| places.iter().map(|place| (*place).to_owned()).collect();
        Walls {
            sandbox: Sandbox::Strict,
            program: None,
            hidden: owned(hidden),
            writable: owned(writable),
            ..Walls::default()
        }
    };
    let parent = Spec {
        workdir: "/w".into(),
        walls: Some(walls(&["/h/.ssh"], &["/h/.agent"])),
        containment: Containment::PidNamespace,
        turn_timeout_ms: 1_000,
        limits: Limits {
            nice: Some(1),
            nofile: Some(2),
            memory_bytes: Some(3),
            pids: Some(4),
            milli_cpus: Some(5),
        },
        ..sample::acp_spec()
    };
    assert_eq!(parent.weaker_than(&parent), Vec::<&str>::new());
    type Change = fn(&mut Spec);
    let ways: [(&str, Change); 18] = [
        ("sandbox", |spec| spec.walls = None),
        ("sandbox", |spec| spec.walls.as_mut().unwrap().sandbox = Sandbox::Workdir),
        ("sandbox", |spec| spec.walls.as_mut().unwrap().hidden.clear()),
        ("sandbox", |spec| spec.walls.as_mut().unwrap().writable.push("/h".into())),
        ("sandbox", |spec| spec.walls.as_mut().unwrap().writable.push("/h/.ssh".into())),
        ("sandbox", |spec| spec.walls.as_mut().unwrap().writable.push("/h/.agent/../.ssh".into())),
        ("workdir", |spec| spec.workdir = "/wide".into()),
        ("containment", |spec| spec.containment = Containment::Auto),
        ("nice", |spec| spec.limits.nice = Some(0)),
        ("nofile", |spec| spec.limits.nofile = None),
        ("memory_bytes", |spec| spec.limits.memory_bytes = Some(4)),
        ("pids", |spec| spec.limits.pids = None),
        ("milli_cpus", |spec| spec.limits.milli_cpus = Some(6)),
        ("turn_timeout_ms", |spec| spec.turn_timeout_ms = 0),
        ("turn_timeout_ms", |spec| spec.turn_timeout_ms = 1_001),
        ("permissions", |spec| spec.permissions.policy = PermissionPolicy::Allow),
        ("permissions", |spec| spec.agent = Agent::Shell),
        ("env_pass", |spec| spec.env_pass = vec!["KEY".into()]),
    ];
    for (name, change) in ways {
        let mut child = parent.clone();
        change(&mut child);
        // Rules name paths below a directory, and mean something else in another directory.
        let rules = if name == "workdir" { vec!["permissions"] } else { Vec::new() };
        assert_eq!(child.weaker_than(&parent), [vec![name], rules].concat());
    }
}
