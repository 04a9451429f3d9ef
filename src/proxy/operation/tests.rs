//! Which paths are which operation.

use super::*;

fn of(request: &str) -> Operation {
    let (method, target) = request.split_once(' ').unwrap();
    Operation::of(method.as_bytes(), target.as_bytes(), b"")
}

#[test]
fn hijacks_with_and_without_version() {
    for prefix in ["", "/v1.41", "/v1.24", "/v4.7.0", "/v1"] {
        assert_eq!(of(&format!("POST {prefix}/containers/x/attach")), Operation::Attach, "{prefix}");
        assert_eq!(of(&format!("POST {prefix}/exec/x/start?a=b")), Operation::ExecStart, "{prefix}");
        assert_eq!(of(&format!("POST {prefix}/session")), Operation::BuildKit, "{prefix}");
        assert_eq!(of(&format!("POST {prefix}/grpc")), Operation::BuildKit, "{prefix}");
        assert_eq!(of(&format!("GET {prefix}/containers/x/attach/ws")), Operation::AttachWebSocket);
        assert_eq!(of(&format!("POST {prefix}/libpod/exec/x/start")), Operation::ExecStart, "{prefix}");
    }
}

#[test]
fn names_may_contain_slashes_and_escapes() {
    assert_eq!(of("POST /v1.41/containers/a%2Fb/attach"), Operation::Attach);
    assert_eq!(of("POST /v1.41/containers/a/b/attach"), Operation::Attach);
    assert_eq!(of("POST /%76%31.41/containers/x/%61ttach"), Operation::Attach);
    assert_eq!(of("POST http://h/v1.41/containers/x/attach?stdin=1"), Operation::Attach);
    assert_eq!(of("POST HTTP://h/v1.41/exec/x/start"), Operation::ExecStart);
}

#[test]
fn near_misses_of_hijacks() {
    for request in [
        "GET /containers/x/attach",
        "post /containers/x/attach",
        "POST /containers/attach",
        "POST /containers//attach",
        "POST /containers/x/attach/",
        "POST /containers/x/attachs",
        "POST /exec/start",
        "POST /libpod/session",
        "POST /containers/x/attac%6",
        "GET /info",
    ] {
        assert_eq!(of(request), Operation::Command, "{request}");
    }
    for request in [
        "POST /xcontainers/x/attach",
        "POST /V1.41/containers/x/attach",
        "POST /v/containers/x/attach",
        "POST /v1.41x/containers/x/attach",
        "POST /v1.41/v1.41/containers/x/attach",
        "POST /sessions",
        "POST /x?/containers/x/attach",
        "POST *",
        "POST http://h",
        "OPTIONS *",
    ] {
        assert_eq!(of(request), Operation::Other, "{request}");
    }
}

#[test]
fn streams() {
    for request in [
        "POST /v1.41/containers/x/wait?condition=removed",
        "GET /events",
        "GET /containers/x/logs?follow=1",
        "GET /containers/x/stats",
        "GET /containers/x/export",
        "GET /services/x/logs",
        "GET /tasks/x/logs",
        "GET /images/r/n:t/get",
        "GET /images/get?names=a",
        "POST /images/r/n:t/push",
        "GET /containers/x/archive?path=/",
        "POST /v1.19/containers/x/copy",
        "POST /plugins/pull?remote=a",
        "POST /plugins/r/n:t/upgrade?remote=a",
        "POST /v4.0.0/libpod/images/pull",
        "GET /v4.0.0/libpod/images/export",
        "POST /libpod/manifests/m/registry/docker.io",
        "POST /libpod/manifests/m/registry/quay.io/me/x:1",
        "POST /libpod/artifacts/pull?name=a",
        "GET /libpod/artifacts/r/n:t/extract",
        "POST /libpod/local/build",
        "GET /libpod/volumes/v/export",
    ] {
        assert_eq!(of(request), Operation::Stream, "{request}");
    }
}

#[test]
fn uploads() {
    for request in [
        "POST /build?version=2",
        "POST /images/create?fromImage=x",
        "POST /images/create?fromSrc=-",
        "POST /images/load?quiet=1",
        "PUT /containers/x/archive?path=/",
        "POST /plugins/create?name=a",
        "POST /v4.0.0/libpod/images/import",
        "POST /libpod/play/kube",
        "POST /libpod/kube/play",
        "POST /libpod/artifacts/add?name=a",
        "POST /libpod/containers/x/restore?import=1",
        "POST /libpod/volumes/v/import",
    ] {
        assert_eq!(of(request), Operation::Upload, "{request}");
    }
}

#[test]
fn work() {
    for request in [
        "POST /containers/x/stop?t=600",
        "POST /containers/x/restart",
        "POST /v1.41/commit?container=x",
        "POST /v1.41/containers/prune",
        "POST /images/prune?filters=%7B%7D",
        "POST /networks/prune",
        "POST /volumes/prune",
        "POST /build/prune",
        "GET /v1.41/system/df",
        "POST /libpod/system/prune",
        "POST /libpod/pods/prune",
        "POST /libpod/pods/p/stop",
    ] {
        assert_eq!(of(request), Operation::Work, "{request}");
    }
}

/// What takes its time on a busy daemon, or need not.
#[test]
fn commands() {
    for request in [
        "HEAD /_ping",
        "GET /v1.41/version",
        "POST /auth",
        "GET /containers/json",
        "POST /containers/create?name=x",
        "POST /containers/x/start",
        "POST /containers/x/kill?signal=TERM",
        "POST /libpod/manifests/registry/x",
        "POST /containers/x/rename?name=y",
        "DELETE /containers/x?force=1",
        "HEAD /containers/x/archive?path=/",
        "GET /containers/x/top?ps_args=-ef",
        "GET /containers/x/changes",
        "POST /containers/x/checkpoints",
        "DELETE /images/r/n:t",
        "GET /images/search?term=x",
        "POST /build/cancel?id=x",
        "POST /exec/x/resize?h=1&w=1",
        "POST /networks/x/connect",
        "DELETE /volumes/x",
        "POST /swarm/join",
        "POST /services/create",
        "POST /nodes/x/update?version=1",
        "PUT /volumes/x?version=1",
        "GET /distribution/r/n:t/json",
        "POST /plugins/x/enable",
        "GET /libpod/pods/json",
        "BREW /containers/json",
    ] {
        assert_eq!(of(request), Operation::Command, "{request}");
    }
    for request in ["GET /", "GET /_pingx", "GET /infos", "GET /info/x", "GET /api/containers", "GET /v2/"] {
        assert_eq!(of(request), Operation::Other, "{request}");
    }
}

#[test]
fn a_base_path_is_taken_off() {
    let of = |target: &str, base: &str| Operation::of(b"POST", target.as_bytes(), base.as_bytes());
    assert_eq!(of("/docker/v1.41/exec/x/start", "/docker/"), Operation::ExecStart);
    assert_eq!(of("/docker/v1.41/exec/x/start", "/docker"), Operation::ExecStart);
    assert_eq!(of("/v1.41/exec/x/start", "/docker"), Operation::ExecStart);
    assert_eq!(of("/dockerx/v1.41/exec/x/start", "/docker"), Operation::Other);
    assert_eq!(of("/other/v1.41/exec/x/start", "/docker"), Operation::Other);
    assert_eq!(of("/v1.41/exec/x/start", "/"), Operation::ExecStart);
}
