#![forbid(unsafe_code)]
//! Where this process is, as seen from a Docker daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, ToSocketAddrs};

use dockline::engine::Address;
use dockline::proxy::Network;
use dockline_discovery::container::Place;
use serde::Deserialize;

/// What is known of a daemon before it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// Whether it is on this machine.
    pub(crate) is_here: bool,
    /// The address of its machine.
    pub(crate) address: Option<IpAddr>,
    /// The networks of containers that can be reached by routes of the operator's.
    pub(crate) direct: Vec<Network>,
}

/// Returns the addresses of this machine, or of this container.
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    dockline_sys::interface_addresses().unwrap_or_default()
}

/// Returns the address of the machine that a daemon listens on; `None`: it is on this one, or not
/// known.
pub(crate) fn address_of(daemon: &Address) -> Option<IpAddr> {
    match daemon {
        Address::Unix(_) => None,
        Address::Tcp { host, port } => {
            (host.as_str(), *port).to_socket_addrs().ok()?.next().map(|address| address.ip().to_canonical())
        }
    }
}

/// Returns the id of the container that this process is in, by the files that Docker mounts into
/// each: `/etc/hostname` and others are at `…/containers/ID/…` on the host.
pub(crate) fn own_container() -> Option<String> {
    fs::read_to_string("/proc/self/mountinfo").ok().and_then(|mounts| container_in(&mounts))
}

fn container_in(mounts: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        // The fourth field is the mounted directory or file (proc(5)).
        let root = line.split(' ').nth(3)?;
        let (_, rest) = root.split_once("/containers/")?;
        let (id, file) = rest.split_once('/')?;
        let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_id && matches!(file, "hostname" | "hosts" | "resolv.conf")).then(|| id.to_owned())
    })
}

/// Reads the id of a container, and where a process in it is, from what the daemon says of it.
pub(crate) fn read(inspect: &[u8]) -> Option<(String, Place)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inspect {
        id: String,
        host_config: HostConfig,
        network_settings: NetworkSettings,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct HostConfig {
        network_mode: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct NetworkSettings {
        networks: BTreeMap<String, Endpoint>,
    }
    #[derive(Deserialize)]
    struct Endpoint {
        #[serde(rename = "NetworkID", default)]
        id: String,
    }
    let inspect: Inspect = serde_json::from_slice(inspect).ok()?;
    if inspect.host_config.network_mode == "host" {
        return Some((inspect.id, Place::Host));
    }
    let networks = inspect.network_settings.networks;
    let names = networks.into_iter().flat_map(|(name, endpoint)| [name, endpoint.id]);
    let names = names.filter(|name| !name.is_empty()).collect::<BTreeSet<_>>();
    Some((inspect.id, Place::Container(names)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_is_found_by_what_docker_mounts_into_it() {
        let id = "0123456789abcdef".repeat(4);
        let mount = |root: &str| {
            format!(
                "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n36 35 8:1 {root} /etc/hosts rw - ext4 /dev/sda1 rw\n"
            )
        };
        let found = |root: &str| container_in(&mount(root));
        assert_eq!(found(&format!("/var/lib/docker/containers/{id}/hosts")), Some(id.clone()));
        assert_eq!(found(&format!("/data/containers/{id}/hostname")), Some(id.clone()));
        assert_eq!(found(&format!("/var/lib/docker/containers/{id}/x-json.log")), None);
        assert_eq!(found(&format!("/var/lib/docker/containers/{}/hosts", &id[1..])), None);
        assert_eq!(found("/"), None);
    }

    #[test]
    fn the_networks_of_the_container_are_read_by_name_and_id() {
        let bridge = br#"{"Id":"c","HostConfig":{"NetworkMode":"app"},"NetworkSettings":{"Networks":{"app":{"NetworkID":"n1"}}}}"#;
        let names = ["app", "n1"].map(str::to_owned).into();
        assert_eq!(read(bridge), Some(("c".into(), Place::Container(names))));
        let host =
            br#"{"Id":"c","HostConfig":{"NetworkMode":"host"},"NetworkSettings":{"Networks":{"host":{}}}}"#;
        assert_eq!(read(host), Some(("c".into(), Place::Host)));
        assert_eq!(read(b"{}"), None);
    }
}
