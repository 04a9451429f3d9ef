#![forbid(unsafe_code)]
//! Help, completions, errors in options and configuration.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use support::{Gateway, TempDir, dockline, run, stderr};

#[test]
fn every_command_explains_itself() {
    for command in ["serve", "check", "publish", "unpublish", "ports", "healthcheck", "completions", "man"] {
        let output = run(&[command, "--help"]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("Examples:\n  dockline"), "{command}: {said}");
    }
    let version = run(&["--version"]);
    assert!(String::from_utf8_lossy(&version.stdout).contains("rustls"));
    assert_eq!(run(&[]).status.code(), Some(2));
}

#[test]
fn completions_and_manual_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(String::from_utf8_lossy(&run(&["completions", shell]).stdout).contains("drain"), "{shell}");
    }
    assert!(String::from_utf8_lossy(&run(&["man"]).stdout).contains(".TH dockline 1"));
    let page = String::from_utf8_lossy(&run(&["man", "serve"]).stdout).into_owned();
    assert!(page.contains(".TH dockline-serve 1") && page.contains("drain"), "{page}");
    assert!(stderr(&run(&["man", "sevre"])).contains("did you mean `serve`?"));
}

#[test]
fn wrong_options_are_refused_with_the_reason() {
    for (arguments, words) in [
        (["--listen", "unxi:///a"], "did you mean `unix`?"),
        (["--drain-timeout", "30"], "write \"30s\""),
        (["--threads", "0"], "--threads"),
        (["--admin", "tcp://0.0.0.0:1"], "reached by other machines"),
        (["--lisen", "a"], "--listen"),
    ] {
        let output = run(&["serve", arguments[0], arguments[1]]);
        let said = stderr(&output);
        assert!(output.status.code() == Some(2) && said.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn check_shows_the_place_and_serve_says_the_same() {
    let dir = TempDir::new();
    let file = dir.write("bad.toml", "[limits]\nhead_tiem = \"3s\"\n");
    let told = format!(
        "dockline: {file}:2:1: limits: unknown key `head_tiem`; did you mean `head_time`?\n 2 | head_tiem = \"3s\"\n   | ^^^^^^^^^\n"
    );
    let checked = run(&["check", "--config", &file]);
    assert_eq!((checked.status.code(), stderr(&checked)), (Some(3), told.clone()));
    let served = run(&["serve", "--config", &file]);
    assert_eq!((served.status.code(), stderr(&served)), (Some(1), told));

    let missing = run(&["check", "--config", &dir.name("none.toml")]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(stderr(&missing).contains("cannot be read"));
}

#[test]
fn check_reads_the_certificates() {
    let dir = TempDir::new();
    let text = format!(
        "[[listen]]\naddress = \"tls://127.0.0.1:2376\"\ntls = {{ dir = \"{}\" }}\n",
        dir.name("tls")
    );
    let file = dir.write("d.toml", &text);
    let output = run(&["check", "--config", &file]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(3));
    assert!(said.contains(&format!("{file}:2:11: ")) && said.contains("key.pem: cannot be read"), "{said}");
}

#[test]
fn check_sums_up_and_warns() {
    let output =
        run(&["check", "--listen", "tcp://0.0.0.0:2375", "--upstream", "unix:///a", "--upstream", "tcp://b"]);
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("tcp://0.0.0.0:2375 -> docker (unix:///a, tcp://b:2375)"), "{said}");
    assert!(stderr(&output).contains("OPEN TO OTHER MACHINES WITHOUT TLS"));
}

#[test]
fn a_loop_is_refused() {
    let output = run(&["serve", "--listen", "127.0.0.1:5", "--upstream", "tcp://localhost:5"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("requests would loop"));
}

#[test]
fn options_win_over_the_environment_over_the_file() {
    let dir = TempDir::new();
    let (one, two, three) = (dir.unix("1"), dir.unix("2"), dir.unix("3"));
    let file = dir.write("d.toml", &format!("[admin]\naddress = \"off\"\n[[listen]]\naddress = \"{one}\"\n"));
    let served = |command: &mut std::process::Command| {
        let dir = TempDir::new();
        Gateway::spawn(&dir, command.args(["--config", &file])).ready.clone()
    };
    let on = |address: &str| format!("READY=1\nSTATUS=serving on {address}");
    assert_eq!(served(&mut dockline(&["serve"])), on(&one));
    assert_eq!(served(dockline(&["serve"]).env("DOCKLINE_LISTEN", &two)), on(&two));
    assert_eq!(served(dockline(&["serve", "--listen", &three]).env("DOCKLINE_LISTEN", &two)), on(&three));
}
