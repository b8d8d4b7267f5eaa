//! `ottla profile`: clusters by name, in a file of the user's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use ottla_env::Env;
use serde_json::{Value, json};

use super::output::Format;
use super::session::nearest;
use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    task: Task,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Subcommand)]
enum Task {
    /// Name a cluster; the first is used from then on.
    Add {
        /// The name.
        name: String,
        /// Its nodes.
        #[arg(value_name = "HOST:PORT")]
        bootstrap_server: String,
    },
    /// List the clusters that have a name.
    List,
    /// Use a cluster wherever none is named.
    Use {
        /// Its name.
        name: String,
    },
    /// Forget a name.
    Remove {
        /// The name.
        name: String,
    },
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Profiles {
    current: Option<String>,
    servers: BTreeMap<String, String>,
}

impl Profiles {
    fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let mut servers = BTreeMap::new();
        for (name, profile) in value.get("profiles")?.as_object()? {
            servers.insert(name.clone(), profile.get("bootstrap_server")?.as_str()?.to_owned());
        }
        let current = value.get("current").and_then(Value::as_str).map(str::to_owned);
        Some(Self { current, servers })
    }

    fn text(&self) -> String {
        let profiles: serde_json::Map<String, Value> = self
            .servers
            .iter()
            .map(|(name, server)| (name.clone(), json!({ "bootstrap_server": server })))
            .collect();
        format!("{:#}\n", json!({ "current": self.current, "profiles": profiles }))
    }

    fn named(&self, name: &str) -> Result<&String> {
        self.servers.get(name).ok_or_else(|| {
            let nearest = nearest(name, self.servers.keys().map(String::as_str));
            Failure {
                what: format!("there is no profile {name}"),
                why: nearest.map_or_else(
                    || format!("{} are known", self.servers.len()),
                    |nearest| format!("did you mean {nearest}?"),
                ),
                next: format!("ottla profile list, or ottla profile add {name} HOST:PORT"),
            }
            .into()
        })
    }
}

/// `$XDG_CONFIG_HOME/ottla/profiles.json`, in `~/.config` if that is not set.
fn path() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(config.join("ottla/profiles.json"))
}

fn read(env: &Env) -> Result<Profiles> {
    let Some(path) = path().filter(|path| env.disk.exists(path)) else {
        return Ok(Profiles::default());
    };
    let text = env.disk.read(&path).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.and_then(|text| Profiles::parse(&text)).ok_or_else(|| {
        Failure {
            what: format!("{} cannot be read", path.display()),
            why: "it is not a file of profiles".to_owned(),
            next: "correct it, or remove it and begin anew: ottla profile add NAME HOST:PORT"
                .to_owned(),
        }
        .into()
    })
}

fn write(env: &Env, profiles: &Profiles) -> Result<()> {
    let Some(path) = path() else {
        return Err(Failure {
            what: "there is no place for profiles".to_owned(),
            why: "neither XDG_CONFIG_HOME nor HOME is set".to_owned(),
            next: "set one of them".to_owned(),
        }
        .into());
    };
    if let Some(parent) = path.parent() {
        env.disk.create_dir_all(parent)?;
    }
    Ok(env.disk.write_atomic(&path, profiles.text().as_bytes())?)
}

/// The nodes of the profile that is named, or of the one in use, if there is one.
pub(super) fn bootstrap_server(env: &Env, named: Option<&str>) -> Result<Option<String>> {
    let profiles = read(env)?;
    match named.or(profiles.current.as_deref()) {
        Some(name) => profiles.named(name).cloned().map(Some),
        None => Ok(None),
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let _inside = runtime.enter();
    let env = Env::os();
    let mut profiles = read(&env)?;
    let text = match &options.task {
        Task::List => {
            let rows: Vec<Value> = profiles
                .servers
                .iter()
                .map(|(name, server)| {
                    let is_current = profiles.current.as_ref() == Some(name);
                    json!({ "profile": name, "bootstrap_server": server, "current": is_current })
                })
                .collect();
            let columns =
                [("PROFILE", "profile"), ("NODES", "bootstrap_server"), ("IN USE", "current")];
            return options.format.rows(&columns, &rows);
        }
        Task::Add { name, bootstrap_server } => {
            profiles.servers.insert(name.clone(), bootstrap_server.clone());
            profiles.current.get_or_insert_with(|| name.clone());
            format!("{name} is {bootstrap_server}")
        }
        Task::Use { name } => {
            let server = profiles.named(name)?.clone();
            profiles.current = Some(name.clone());
            format!("{name} ({server}) is used wherever no node is named")
        }
        Task::Remove { name } => {
            profiles.named(name)?;
            profiles.servers.remove(name);
            profiles.current = profiles.current.filter(|current| current != name);
            format!("{name} is forgotten")
        }
    };
    write(&env, &profiles)?;
    options.format.object(&json!({ "current": profiles.current }), &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_survive_their_file() {
        let servers = BTreeMap::from([("local".to_owned(), "127.0.0.1:9092".to_owned())]);
        let profiles = Profiles { current: Some("local".to_owned()), servers };
        assert_eq!(Profiles::parse(&profiles.text()), Some(profiles));
        assert_eq!(Profiles::parse("{}"), None);
        assert_eq!(Profiles::parse("nonsense"), None);
    }
}
