#![forbid(unsafe_code)]
use super::super::router::RouterConfig;
use super::super::tests::config;
use super::*;

const LISTEN: &str = "[[listen]]\naddress = \"tcp://127.0.0.1:80\"\nrouter = true\n[router]\n";
const SERVER: &str = "cert = \"/c\", key = \"/k\"";

fn router(line: &str, keys: &str) -> Result<RouterConfig, String> {
    config(line, &format!("{LISTEN}{keys}\n")).map(|config| config.router.unwrap())
}

fn refused(line: &str, keys: &str) -> String {
    router(line, keys).map(|router| format!("{router:?}")).unwrap_err()
}

#[test]
fn a_front_door_has_an_address_and_the_authority_of_those_who_join() {
    let keys = format!(
        "front_door = {{ address = \"0.0.0.0\", tls = {{ {SERVER}, client_ca = \"/ca\" }}, keep = \"1h\" }}"
    );
    let front = router("", &keys).unwrap().front_door.unwrap();
    assert_eq!(front.address, ListenAddress::Tcp { host: "0.0.0.0".into(), port: 2378, tls: true });
    assert_eq!(front.keep, Some(Duration::from_secs(3600)));
    assert_eq!(front.tls.client_ca.unwrap().to_str(), Some("/ca"));
    let keep = |keep: &str| router("", &keys.replace("\"1h\"", keep)).unwrap().front_door.unwrap().keep;
    assert_eq!(keep("\"0\""), None);
    let default = router("", &keys.replace(", keep = \"1h\"", "")).unwrap().front_door.unwrap().keep;
    assert_eq!(default, Some(Duration::from_secs(300)));
}

#[test]
fn a_front_door_without_an_authority_is_refused() {
    for (tls, reason) in
        [(SERVER, "add client_ca = \"FILE\""), ("client_ca = \"/ca\"", "the certificate is missing")]
    {
        let keys = format!("front_door = {{ address = \"tls://0.0.0.0:1\", tls = {{ {tls} }} }}");
        let text = refused("", &keys);
        assert!(text.contains("router.front_door: ") && text.contains(reason), "{text}");
    }
}

#[test]
fn who_joins_shows_a_certificate() {
    let keys = |tls: &str| format!("join = {{ address = \"tls://front.example\", tls = {{ {tls} }} }}");
    let join = router("", &keys(&format!("ca = \"/ca\", {SERVER}"))).unwrap().join.unwrap();
    assert_eq!(join.front, FrontAddress { host: "front.example".into(), port: 2378 });
    assert!(join.tls.credentials.is_some());
    for (tls, reason) in [("ca = \"/ca\"", "asks for the certificate"), ("cert = \"/c\"", "(ca)")] {
        let text = refused("", &keys(tls));
        assert!(text.contains("router.join: ") && text.contains(reason), "{text}");
    }
}

#[test]
fn other_addresses_are_refused() {
    for (address, reason) in [
        ("tcp://front.example", "write tls://HOST:PORT"),
        ("unix:///front.sock", "write tls://HOST:PORT"),
        ("tls://", "the host is missing"),
        ("tls://front.example:0", "port 0 cannot be connected to"),
    ] {
        let text = refused("", &format!("join = {{ address = \"{address}\" }}"));
        assert!(text.contains(reason), "{address}: {text}");
    }
}

#[test]
fn a_front_door_has_a_port_of_its_own() {
    let tls = format!("tls = {{ {SERVER}, client_ca = \"/ca\" }}");
    let text = refused("", &format!("front_door = {{ address = \"127.0.0.1:80\", {tls} }}"));
    assert!(text.contains("is the address of a listener, too"), "{text}");
}

#[test]
fn the_command_line_can_say_both() {
    let router = router("--router --join front:1 --join-tls /n --front-door [::]:2 --front-door-tls /f", "");
    let router = router.unwrap();
    let (front, join) = (router.front_door.unwrap(), router.join.unwrap());
    assert_eq!(
        (front.address.key().as_str(), join.front.to_string().as_str()),
        ("tcp://[::]:2", "tls://front:1")
    );
    assert_eq!(join.tls.ca.to_str(), Some("/n/ca.pem"));
    let (cert, key) = front.tls.own.unwrap();
    assert_eq!((cert.to_str(), key.to_str()), (Some("/f/cert.pem"), Some("/f/key.pem")));
}

#[test]
fn options_that_would_be_lost_are_refused() {
    for (line, reason) in [
        ("--join front", "--join: this option needs `--router`"),
        ("--front-door [::]", "--front-door: this option needs `--router`"),
        ("--router --join-tls /n", "--join-tls: this option needs `--join`"),
        ("--router --front-door-tls /f", "--front-door-tls: this option needs `--front-door`"),
        ("--router --join front", "add --join-tls DIR"),
        ("--router --front-door [::]", "add --front-door-tls DIR"),
    ] {
        let text = config(line, "").map(|_| ()).unwrap_err();
        assert!(text.contains(reason), "{line}: {text}");
    }
}
