//! nginx with Lua, as document.conf has it, reads what we write in the classic layout.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::thread;

use crate::server::{Directory, Server, directory, free_port, wait_for};
use crate::support::{Machine, classic, node};

struct Nginx {
    child: Child,
    port: u16,
    _files: Directory,
}

impl Nginx {
    fn start(redis: &Server) -> Self {
        let (files, port) = (directory(), free_port());
        let text = include_str!("document.conf").replace("@LISTEN@", &port.to_string());
        fs::write(files.path("nginx.conf"), text.replace("@REDIS@", &redis.port.to_string())).unwrap();
        let prefix = files.path("");
        let error_log = files.path("error.log");
        let child = Command::new("/usr/sbin/nginx")
            .args(["-p", prefix.to_str().unwrap(), "-c", "nginx.conf", "-e", error_log.to_str().unwrap()])
            .spawn()
            .expect("Debian's packages nginx, libnginx-mod-http-lua and lua-nginx-redis");
        wait_for("nginx to listen", || TcpStream::connect(("127.0.0.1", port)).ok());
        Self { child, port, _files: files }
    }

    /// Returns status and body.
    fn get(&self, host: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// Waits until a host is served so.
    #[track_caller]
    fn serves(&self, host: &str, expected: (u16, &str)) {
        wait_for(&format!("{host} to be {expected:?}"), || {
            let (status, body) = self.get(host);
            (status == expected.0 && (status != 200 || body == expected.1)).then_some(())
        });
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGKILL would leave its worker.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// A container with a web application, which says its name and the host that it was asked for.
/// Returns its address.
fn container(name: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let host = lines
                .take_while(|line| !line.is_empty())
                .find_map(|line| line.strip_prefix("Host: ").map(str::to_owned));
            let body = format!("{name} for {}", host.unwrap_or_default());
            let _ = write!(&stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    address
}

#[test]
fn nginx_with_lua_reaches_the_containers_of_its_machine() {
    let mut redis = Server::start(&[]);
    let nginx = Nginx::start(&redis);
    let (web, api, moved) = (container("web"), container("api"), container("moved"));
    let one = Machine::new("one", classic(redis.address(), "one"));
    one.has(&[("web", &web), ("api", &api)]);
    nginx.serves("web.example.com", (200, "web for web.example.com"));
    nginx.serves("api.192.0.2.4.nip.io", (200, "api for api.192.0.2.4.nip.io"));
    assert_eq!(nginx.get("other.example.com").0, 404);
    one.starts("web", &moved);
    nginx.serves("web.example.com", (200, "moved for web.example.com"));
    one.ends("web");
    nginx.serves("web.example.com", (404, ""));
    redis.kill();
    assert_eq!(nginx.get("api.example.com").0, 503);
    redis.launch();
    nginx.serves("api.example.com", (200, "api for api.example.com"));
}

#[test]
fn nginx_with_lua_reaches_those_of_another_machine_by_its_gateway() {
    let (front_redis, worker_redis) = (Server::start(&[]), Server::start(&[]));
    let (front, worker) = (Nginx::start(&front_redis), Nginx::start(&worker_redis));
    let web = container("web");
    // Both know the container; each writes what its own nginx has to do.
    let mut machine = node("worker");
    machine.gateway = Some(([127, 0, 0, 1], worker.port).into());
    let at_front = Machine::new("worker", classic(front_redis.address(), "front"));
    let at_worker = Machine::new("worker", classic(worker_redis.address(), "worker"));
    at_front.has_on(machine.clone(), &[("web", &web)]);
    at_worker.has_on(machine, &[("web", &web)]);
    worker.serves("web.example.com", (200, "web for web.example.com"));
    front.serves("web.example.com", (200, "web for web.example.com"));
    assert_eq!(front_redis.ask::<String>("GET web"), format!("127.0.0.1:{}", worker.port));
    assert_eq!(worker_redis.ask::<String>("GET web"), web);
}
