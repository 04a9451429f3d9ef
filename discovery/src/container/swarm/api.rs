#![forbid(unsafe_code)]
//! What is read of `GET /services`, `/tasks` and `/nodes`. All but the ids may be missing or null.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::inspect::or_default;

/// Returns those entries of a list that can be read, and the ids of the others: a service that
/// cannot must not hide the rest.
pub(super) fn list<'a, T: Deserialize<'a>>(
    json: &'a [u8],
) -> Result<(Vec<T>, Vec<String>), serde_json::Error> {
    #[derive(Deserialize)]
    struct Outline {
        #[serde(rename = "ID")]
        id: String,
    }
    // A daemon that is written in Go says null of nothing.
    let entries: Option<Vec<&RawValue>> = serde_json::from_slice(json)?;
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for entry in entries.unwrap_or_default() {
        match serde_json::from_str(entry.get()) {
            Ok(entry) => good.push(entry),
            Err(_) => bad.extend(serde_json::from_str(entry.get()).map(|Outline { id }| id).ok()),
        }
    }
    Ok((good, bad))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Service {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) created_at: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) spec: ServiceSpec,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) endpoint: Ports,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) update_status: UpdateStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ServiceSpec {
    #[serde(deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) task_template: TaskSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct TaskSpec {
    #[serde(deserialize_with = "or_default")]
    pub(super) container_spec: ContainerSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ContainerSpec {
    #[serde(deserialize_with = "or_default")]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) env: Vec<String>,
}

/// The published ports of a service (`ingress`), or of a task (`host`).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Ports {
    #[serde(deserialize_with = "or_default")]
    pub(super) ports: Vec<Port>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Port {
    #[serde(deserialize_with = "or_default")]
    pub(super) protocol: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) target_port: u16,
    #[serde(deserialize_with = "or_default")]
    pub(super) published_port: u16,
    #[serde(deserialize_with = "or_default")]
    pub(super) publish_mode: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct UpdateStatus {
    #[serde(deserialize_with = "or_default")]
    pub(super) state: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Task {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) created_at: String,
    /// Of the version of the service that it was made of.
    #[serde(default, deserialize_with = "or_default")]
    pub(super) spec: TaskSpec,
    #[serde(rename = "ServiceID", default, deserialize_with = "or_default")]
    pub(super) service: String,
    /// From 1; 0 for a service that has one task on each node.
    #[serde(default, deserialize_with = "or_default")]
    pub(super) slot: u64,
    #[serde(rename = "NodeID", default, deserialize_with = "or_default")]
    pub(super) node: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) status: TaskStatus,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) networks_attachments: Vec<Attachment>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct TaskStatus {
    #[serde(deserialize_with = "or_default")]
    pub(super) state: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) port_status: Ports,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Attachment {
    #[serde(deserialize_with = "or_default")]
    pub(super) network: Network,
    /// Such as `10.0.1.5/24`.
    #[serde(deserialize_with = "or_default")]
    pub(super) addresses: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Network {
    #[serde(rename = "ID", deserialize_with = "or_default")]
    pub(super) id: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) spec: NetworkSpec,
    #[serde(deserialize_with = "or_default")]
    pub(super) driver_state: Driver,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct NetworkSpec {
    #[serde(deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) ingress: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) driver_configuration: Driver,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Driver {
    #[serde(deserialize_with = "or_default")]
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Node {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) description: Description,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) status: NodeStatus,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) manager_status: ManagerStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Description {
    #[serde(deserialize_with = "or_default")]
    pub(super) hostname: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct NodeStatus {
    #[serde(deserialize_with = "or_default")]
    pub(super) state: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) addr: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ManagerStatus {
    /// With the port of the swarm.
    #[serde(deserialize_with = "or_default")]
    pub(super) addr: String,
}
