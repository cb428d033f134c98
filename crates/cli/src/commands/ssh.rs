//! `cumulet ssh`: the system's own ssh, through a tunnel.
//!
//! ssh gets `cumulet connect` as its proxy, so it works from wherever the API is reached. Host keys are known by
//! instance id, in a file of their own: an address that another instance had before means nothing, and the user's
//! own `known_hosts` stays as it is.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ec2::shapes::instances::Instance;

use crate::client::Client;
use crate::failure::{Failure, Remedy};
use crate::folders::Folder;
use crate::group;
use crate::identity::{Overrides, variable};
use crate::key::OwnKey;
use crate::shell::Shell;
use crate::wait::until_running;

/// ssh's own port.
const PORT: u16 = 22;

/// How long a guest that accepted the connection may take to greet and agree on keys, in seconds: a small one that is
/// busy booting takes its time.
const HANDSHAKE: u64 = 60;

const EXAMPLES: &str = "\
Examples:
  cumulet ssh web
  cumulet ssh i-0123456789abcdef0 -i my-key.pem uname -r
  cumulet ssh web -o LocalForward='5432 localhost:5432'
  tar c . | cumulet ssh web tar x

It ends with ssh's own exit status: that of the command, or 255 if there was no connection.";

/// To which instance, and as whom.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The instance's id or name
    instance: String,
    /// The private key [default: your own, if the instance was launched with it, else what ssh tries]
    #[arg(short = 'i', long = "identity", value_name = "FILE")]
    identity: Option<PathBuf>,
    /// The user to log in as
    #[arg(short = 'l', long = "login", value_name = "USER", default_value = "admin")]
    login: String,
    /// An option for ssh, as in its configuration; may be given again
    #[arg(short = 'o', value_name = "OPTION=VALUE")]
    option: Vec<String>,
    /// How long to wait for an instance that is booting
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    wait: u64,
    /// What to run instead of a shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Why ssh was not started.
#[derive(Debug, thiserror::Error)]
enum SshError {
    /// There is none.
    #[error("Could not run ssh")]
    Run(#[source] io::Error),
    /// This program does not know where it is.
    #[error("Could not find the cumulet program itself")]
    Itself(#[source] io::Error),
    /// There is no place for host keys.
    #[error("Could not make the folder {} for the keys of instances", path.display())]
    Folder { path: PathBuf, source: io::Error },
}

impl Remedy for SshError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Run(error) if error.kind() == io::ErrorKind::NotFound => {
                Some("sudo apt install openssh-client".to_owned())
            }
            _ => None,
        }
    }
}

/// Becomes ssh, once the instance runs.
pub(crate) async fn run(
    arguments: &Arguments,
    client: &Client,
    overrides: &Overrides,
) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(arguments.wait);
    let instance = client.instance(&arguments.instance).await?;
    let instance = until_running(client, instance, Duration::from_secs(arguments.wait)).await?;
    group::check_open(client, &instance, PORT).await?;
    let left = deadline.saturating_duration_since(Instant::now()).as_secs();
    let program = std::env::current_exe().map_err(SshError::Itself)?;
    let id = &instance.instance_id;
    let mut ssh = Command::new("ssh");
    // ssh obeys what it is told first: the way is ours, then the user decides, and the rest are our defaults.
    ssh.arg("-o").arg(format!("ProxyCommand={}", proxy(&program, overrides, id, left)));
    for option in &arguments.option {
        ssh.args(["-o", option]);
    }
    if let Some(path) = known_hosts()? {
        ssh.arg("-o")
            .arg(format!("UserKnownHostsFile=\"{}\"", path.display().to_string().replace('%', "%%")));
    }
    ssh.args(["-o", &format!("HostKeyAlias={id}"), "-o", "StrictHostKeyChecking=accept-new"]);
    // The guest may take as long as the user waits, whatever ssh's configuration says of others.
    ssh.args(["-o", &format!("ConnectTimeout={}", left + HANDSHAKE), "-o", "ServerAliveInterval=30"]);
    if let Some(key) = key(arguments, &instance)? {
        ssh.arg("-i").arg(key).args(["-o", "IdentitiesOnly=yes"]);
    }
    ssh.args(["-l", &arguments.login, id]);
    if !arguments.command.is_empty() {
        ssh.arg("--").args(&arguments.command);
    }
    Err(SshError::Run(ssh.exec()).into())
}

/// The command that ssh talks through. A shell reads it, after ssh has replaced what begins with `%`.
fn proxy(program: &Path, overrides: &Overrides, instance_id: &str, wait: u64) -> String {
    let Overrides { client, endpoint, region } = overrides;
    let mut words = vec![program.display().to_string()];
    let mut option = |name: &str, value: Option<String>| {
        words.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
    };
    option("--client", client.as_ref().map(|path| path.display().to_string()));
    option("--endpoint", endpoint.clone());
    option("--region", region.clone());
    option("connect", Some(format!("--wait={wait}")));
    words.extend([instance_id.to_owned(), PORT.to_string()]);
    let quoted: Vec<_> = words.iter().map(|word| Shell::Sh.quote(word)).collect();
    quoted.join(" ").replace('%', "%%")
}

/// Where the host keys of instances are kept.
fn known_hosts() -> Result<Option<PathBuf>, SshError> {
    let Some(folder) = Folder::State.path(&variable) else { return Ok(None) };
    std::fs::create_dir_all(&folder).map_err(|source| SshError::Folder { path: folder.clone(), source })?;
    Ok(Some(folder.join("known_hosts")))
}

/// The private key to log in with, if it is not ssh's to choose.
fn key(arguments: &Arguments, instance: &Instance) -> Result<Option<PathBuf>, Failure> {
    if arguments.identity.is_some() {
        return Ok(arguments.identity.clone());
    }
    let own = OwnKey::load(&variable)?.filter(|key| Some(&key.name) == instance.key_name.as_ref());
    Ok(own.map(|key| key.private))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_asks_the_same_cloud_and_survives_ssh_and_the_shell() {
        let overrides = Overrides {
            client: Some("/a folder/100%/client.json".into()),
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            region: None,
        };
        assert_eq!(
            proxy(Path::new("/bin/cumulet"), &overrides, "i-0123456789abcdef0", 60),
            "/bin/cumulet --client '/a folder/100%%/client.json' --endpoint http://127.0.0.1:1 connect --wait=60 \
             i-0123456789abcdef0 22"
        );
    }
}
