//! The output of `jlist`, as tests read it.

use serde_json::Value;

/// One process of the list.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: u64,
    pub name: String,
    pub pid: i32,
    pub status: String,
    pub restarts: u64,
    /// The whole entry, in PM2's shape.
    pub json: Value,
}

impl Row {
    fn new(json: Value) -> Row {
        let env = &json["pm2_env"];
        Row {
            id: json["pm_id"].as_u64().expect("pm_id"),
            name: json["name"].as_str().expect("name").to_owned(),
            pid: i32::try_from(json["pid"].as_i64().expect("pid")).expect("a pid"),
            status: env["status"].as_str().expect("status").to_owned(),
            restarts: env["restart_time"].as_u64().expect("restart_time"),
            json,
        }
    }

    /// The value of a key of `pm2_env`.
    pub fn env(&self, key: &str) -> &Value {
        &self.json["pm2_env"][key]
    }

    /// The text of a key of `pm2_env`. Empty if there is none.
    pub fn text(&self, key: &str) -> &str {
        self.env(key).as_str().unwrap_or_default()
    }

    pub fn online(&self) -> bool {
        self.status == "online"
    }
}

/// Reads the output of `jlist`, which must be JSON and nothing else.
pub fn parse(text: &str) -> Vec<Row> {
    let list: Vec<Value> = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in jlist: {text}"));
    list.into_iter().map(Row::new).collect()
}

/// Ids, in the list's order.
pub fn ids(rows: &[Row]) -> Vec<u64> {
    rows.iter().map(|row| row.id).collect()
}

/// Pids, in the list's order.
pub fn pids(rows: &[Row]) -> Vec<i32> {
    rows.iter().map(|row| row.pid).collect()
}
