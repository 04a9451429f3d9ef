//! Events and lists, as they are read.

use std::hash::RandomState;

use super::super::event::{self, Hint};
use super::super::list::{self, Listed};

fn hint(r#type: &str, action: &str, id: &str, attributes: &str) -> Option<Hint> {
    let text = format!(
        r#"{{"Type":"{type}","Action":"{action}","Actor":{{"ID":"{id}","Attributes":{attributes}}},"timeNano":7}}"#
    );
    let (hint, time) = event::read(text.as_bytes()).unwrap();
    assert_eq!(time, Some(7));
    hint
}

#[test]
fn an_event_tells_which_container_may_have_changed() {
    let abc = || Some(Hint::Container("abc".into()));
    for action in ["create", "destroy", "rename", "health_status: healthy", "health_status"] {
        assert_eq!(
            hint("container", action, "abc", r#"{"container":"label","name":"x"}"#),
            abc(),
            "{action}"
        );
    }
    for action in ["die", "pause"] {
        assert_eq!(hint("container", action, "abc", "{}"), Some(Hint::Ended("abc".into())));
    }
    for action in ["start", "unpause"] {
        assert_eq!(hint("container", action, "abc", "{}"), Some(Hint::Begun("abc".into())));
    }
    for action in ["connect", "disconnect"] {
        assert_eq!(hint("network", action, "net", r#"{"container":"abc"}"#), abc());
        assert_eq!(hint("network", action, "net", "{}"), None);
        assert_eq!(hint("network", action, "net", "null"), None);
    }
    assert_eq!(hint("network", "destroy", "net", "null"), Some(Hint::Any));
    assert_eq!(hint("daemon", "reload", "d", "{}"), Some(Hint::Any));
    for (r#type, action, id) in [
        ("container", "exec_create: start", "abc"),
        ("container", "top", "abc"),
        ("image", "destroy", "abc"),
        ("network", "create", "abc"),
        ("container", "start", ""),
        ("container", "start", "../x"),
        ("container", "start", &"a".repeat(129)),
    ] {
        assert_eq!(hint(r#type, action, id, "{}"), None, "{type} {action} {id}");
    }
}

#[test]
fn an_event_of_a_swarm_tells_that_any_task_may_have_changed() {
    let hint = |r#type: &str, action: &str, attributes: &str| {
        let text = format!(
            r#"{{"Type":"{type}","Action":"{action}","Actor":{{"ID":"x","Attributes":{attributes}}},"timeNano":7}}"#
        );
        let (hint, time) = event::read_of_swarm(text.as_bytes()).unwrap();
        assert_eq!(time, Some(7));
        hint
    };
    let task = r#"{"com.docker.swarm.task.id":"t"}"#;
    for (r#type, action, attributes) in [
        ("service", "create", "{}"),
        ("service", "update", "null"),
        ("service", "remove", "{}"),
        ("node", "update", "{}"),
        ("container", "start", task),
        ("container", "die", task),
        ("container", "health_status: healthy", task),
    ] {
        assert_eq!(hint(r#type, action, attributes), Some(Hint::Any), "{type} {action}");
    }
    for (r#type, action, attributes) in [
        ("container", "start", "{}"),
        ("container", "exec_die", task),
        ("network", "remove", "{}"),
        ("service", "x", "{}"),
    ] {
        assert_eq!(hint(r#type, action, attributes), None, "{type} {action}");
    }
    assert_eq!(event::read_of_swarm(b"x"), None);
}

#[test]
fn what_is_no_event_is_left_out() {
    for text in ["{}", r#"{"Type":"container","Action":"start"}"#, r#"{"Actor":{}}"#] {
        assert_eq!(event::read(text.as_bytes()), Some((None, None)), "{text}");
    }
    for text in ["{", r#"{"Type":1}"#, r#"{"Actor":{"ID":["abc"]}}"#, r#"{"timeNano":-1}"#] {
        assert_eq!(event::read(text.as_bytes()), None, "{text}");
    }
}

fn listed(entry: &str, keys: &RandomState) -> Listed {
    let [listed] = list::read(format!("[{entry}]").as_bytes(), keys).unwrap().try_into().unwrap();
    listed
}

#[test]
fn a_fingerprint_changes_with_what_the_list_shows_but_not_by_itself() {
    let keys = RandomState::new();
    let base = r#"{"Id":"abc","Names":["/web","/db/web"],"State":"running","Status":"Up 2 minutes (healthy)",
        "Labels":{"a":"b"},"NetworkSettings":{"Networks":{"bridge":{"EndpointID":"e1","IPAddress":"172.17.0.2"}}}}"#;
    let first = listed(base, &keys);
    assert_eq!((&*first.id, first.title.raw()), ("abc", "db/web"));
    for (old, new, same) in [
        ("Up 2 minutes (healthy)", "Up 3 hours (healthy)", true),
        (r#"["/web","/db/web"]"#, r#"["/db/web","/web"]"#, true),
        (r#""Id""#, r#""SizeRw":7,"Id""#, true),
        ("(healthy)", "(unhealthy)", false),
        (" (healthy)", "", false),
        ("running", "exited", false),
        ("/web", "/www", false),
        (r#""a":"b""#, r#""a":"c""#, false),
        ("e1", "e2", false),
        ("172.17.0.2", "172.17.0.3", false),
    ] {
        assert!(base.contains(old));
        let other = listed(&base.replace(old, new), &keys);
        assert_eq!(other.fingerprint == first.fingerprint, same, "{old} -> {new}");
    }
    for (state, stopped) in [
        ("exited", true),
        ("created", true),
        ("dead", true),
        ("removing", true),
        ("paused", false),
        ("restarting", false),
    ] {
        let listed = listed(&format!(r#"{{"Id":"abc","Created":7,"State":"{state}"}}"#), &keys);
        assert_eq!(listed.stopped, stopped.then_some(7), "{state}");
    }
    for (created, seconds) in [("-7", -7), ("null", 0), ("\"yesterday\"", 0), ("7.5", 0), ("{}", 0)] {
        let listed = listed(&format!(r#"{{"Id":"abc","Created":{created},"State":"exited"}}"#), &keys);
        assert_eq!(listed.stopped, Some(seconds), "{created}");
    }
    let exited = |status| {
        listed(&format!(r#"{{"Id":"abc","State":"exited","Status":"{status}"}}"#), &keys).fingerprint
    };
    assert_eq!(exited("Exited (0) 2 minutes ago"), exited("Exited (0) 3 minutes ago"));
}

#[test]
fn entries_without_an_id_are_left_out_and_what_is_no_list_is_an_error() {
    let keys = RandomState::new();
    let read = |text: &str| list::read(text.as_bytes(), &keys).ok().map(|list| list.len());
    assert_eq!(read("[]"), Some(0));
    assert_eq!(read(r#"[{"Id":"a/b"},{"Id":""},{"Id":"abc","Names":null,"Labels":null}]"#), Some(1));
    for text in ["null", "{}", "[1]", r#"[{"Names":[]}]"#, r#"[{"Id":"abc"}"#] {
        assert_eq!(read(text), None, "{text}");
    }
}
