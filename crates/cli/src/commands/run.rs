//! `cumulet run`: launches an instance with what a first look needs, a key and open ports.
//!
//! All by the EC2 API: a key pair, a security group, RunInstances. What it can say is a choice; `aws ec2 run-instances`
//! says the rest.

use std::fs::File;
use std::io::{self, Read, stdin};
use std::path::PathBuf;
use std::time::Duration;

use ec2::Blob;
use ec2::shapes::common::{Tag, TagSpecification};
use ec2::shapes::instances::{Instance, RequestedHibernationOptions, RunInstancesRequest};

use super::instances::row;
use crate::client::Client;
use crate::failure::{Failure, Remedy};
use crate::find::{NAME, is_id};
use crate::group::{self, Ports};
use crate::identity::variable;
use crate::key::OwnKey;
use crate::output::{Format, next, note};
use crate::wait::until_running;

const EXAMPLES: &str = "\
Examples:
  cumulet run tiny --name web --allow 22,80 --wait
  cumulet run debian --type t3.small --user-data setup.sh
  cumulet run debian --key my-key-pair --group default
  id=$(cumulet run tiny) && cumulet ssh \"$id\"

Without --key, a key of your own is made once, in ~/.local/share/cumulet/ssh, and cumulet ssh uses it.";

/// User-data of EC2 has this many bytes at most.
const USER_DATA: u64 = 16 * 1024;

/// What to launch.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The image's id or name: see cumulet images
    image: String,
    /// The instance's name, by which other commands find it
    #[arg(long, short)]
    name: Option<String>,
    /// The instance type: see cumulet types
    #[arg(long = "type", short = 't', value_name = "TYPE")]
    kind: Option<String>,
    /// A key pair of the cloud instead of your own key
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// What the guest runs or reads at its first boot; - is stdin
    #[arg(long, value_name = "FILE")]
    user_data: Option<PathBuf>,
    /// The ports that anybody may reach: 22, 8000-8010, 53/udp
    #[arg(long, value_name = "PORTS", value_delimiter = ',', default_value = "22")]
    allow: Vec<Ports>,
    /// A security group, by id or name, instead of --allow; may be given again
    #[arg(long, value_name = "GROUP", conflicts_with = "allow")]
    group: Vec<String>,
    /// Launch one that can be hibernated: see cumulet stop
    #[arg(long)]
    hibernation: bool,
    /// Wait until it runs, at most this long
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "300")]
    wait: Option<u64>,
}

/// Why user-data cannot be sent.
#[derive(Debug, thiserror::Error)]
enum UserDataError {
    /// It cannot be read.
    #[error("Could not read the user-data {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// It is too long.
    #[error("The user-data {} has more than {USER_DATA} bytes", path.display())]
    TooLong { path: PathBuf },
}

impl Remedy for UserDataError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => None,
            Self::TooLong { .. } => {
                Some("let the guest fetch the rest, or compress it if cloud-init reads it".to_owned())
            }
        }
    }
}

/// Launches it.
pub(crate) async fn run(arguments: Arguments, client: &Client, output: Format) -> Result<(), Failure> {
    let Arguments { image, name, kind, key, user_data, allow, group, hibernation, wait } = arguments;
    let user_data = user_data.map(read_user_data).transpose()?;
    let image = client.image(&image).await?;
    let key_name = match key {
        Some(name) => name,
        None => OwnKey::ensure(client, &variable).await?.name,
    };
    let (security_group_id, security_group) = if group.is_empty() {
        (vec![group::allowing(client, &allow).await?], Vec::new())
    } else {
        group.iter().cloned().partition(|group| is_id(group, "sg"))
    };
    let request = RunInstancesRequest {
        image_id: Some(image.image_id),
        instance_type: kind,
        key_name: Some(key_name),
        min_count: 1,
        max_count: 1,
        security_group_id,
        security_group,
        tag_specification: name.iter().map(|name| named(name)).collect(),
        user_data: user_data.map(Blob),
        hibernation_options: hibernation.then_some(RequestedHibernationOptions { configured: Some(true) }),
        ..Default::default()
    };
    let launched = client.call(&request).await?.instances_set;
    let mut instance = launched.into_iter().next().unwrap_or_default();
    if let Some(seconds) = wait {
        instance = until_running(client, instance, Duration::from_secs(seconds)).await?;
    }
    output.made(&instance.instance_id, &row(&instance))?;
    tell(&instance, name.as_deref(), if group.is_empty() { &allow } else { &[] });
    Ok(())
}

/// The specification of the tag that names an instance.
fn named(name: &str) -> TagSpecification {
    let tag = Tag { key: NAME.to_owned(), value: name.to_owned() };
    TagSpecification { resource_type: "instance".to_owned(), tag: vec![tag] }
}

fn read_user_data(path: PathBuf) -> Result<Vec<u8>, UserDataError> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        stdin().lock().take(USER_DATA + 1).read_to_end(&mut bytes)
    } else {
        File::open(&path).and_then(|file| file.take(USER_DATA + 1).read_to_end(&mut bytes))
    };
    match read {
        Ok(length) if length as u64 > USER_DATA => Err(UserDataError::TooLong { path }),
        Ok(_) => Ok(bytes),
        Err(source) => Err(UserDataError::Read { path, source }),
    }
}

/// Says where it is and what to do with it.
fn tell(instance: &Instance, name: Option<&str>, allowed: &[Ports]) {
    let id = &instance.instance_id;
    let addresses = [("public", &instance.ip_address), ("private", &instance.private_ip_address)];
    let known =
        addresses.iter().filter_map(|(kind, address)| Some(format!("{kind} address {}", address.as_ref()?)));
    let known: Vec<_> = known.collect();
    if !known.is_empty() {
        note(&format!("{id}: {}", known.join(", ")));
    }
    let open = |port| allowed.iter().any(|ports| ports.include(port));
    let short = name.unwrap_or(id);
    let short = crate::shell::Shell::Sh.quote(short);
    if open(22) || allowed.is_empty() {
        next(&format!("cumulet ssh {short}"));
    } else {
        next(&format!("cumulet console {short}"));
    }
    if open(80) {
        next(&format!("cumulet forward {short} 8080:80"));
    }
}
