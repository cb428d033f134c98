//! `cumulet env`: the variables by which AWS's tools reach this cloud.
//!
//! Files win over variables here, unlike elsewhere: in a shell where an earlier cloud left its variables, this is the
//! command that brings the new ones. Variables that would lead the tools past the endpoint are taken away.

use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::failure::{Failure, Remedy, report};
use crate::identity::{Identity, Overrides, variable};
use crate::output::{Cell, Format, data, next};
use crate::shell::Shell;

const EXAMPLES: &str = "\
Examples:
  eval \"$(cumulet env)\"                  bash, zsh and other descendants of sh
  cumulet env --shell fish | source      fish";

/// For which shell.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The shell that reads the output
    #[arg(long, default_value = "sh")]
    shell: Shell,
}

/// What makes AWS's tools go elsewhere, or sign with what this cloud does not know.
const ASTRAY: [&str; 4] = [
    "AWS_ENDPOINT_URL_EC2",
    "AWS_ENDPOINT_URL_STS",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_SESSION_TOKEN",
];

/// How long `aws --version` may take. It is a large Python program: a second is usual.
const AWS_PATIENCE: Duration = Duration::from_secs(5);

/// Prints them, and warns of an `aws` that would not obey them.
pub(crate) async fn run(arguments: &Arguments, overrides: &Overrides, output: Format) -> Result<(), Failure> {
    let identity = Identity::find_in_files(overrides, &variable)?;
    let endpoint = identity.endpoint.to_string();
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", &identity.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", &identity.secret_access_key),
        ("AWS_DEFAULT_REGION", &identity.region),
        ("AWS_REGION", &identity.region),
    ];
    let token = identity.session_token.as_deref().map(|token| ("AWS_SESSION_TOKEN", token));
    let variables: Vec<_> = variables.into_iter().chain(token).collect();
    match output {
        Format::Json => {
            output.record(&variables.iter().map(|(name, value)| (*name, Cell::from(*value))).collect())?
        }
        Format::Table => {
            let set = variables.iter().map(|(name, value)| arguments.shell.set(name, value));
            let kept = |name: &str| variables.iter().any(|(other, _)| *other == name);
            let astray = ASTRAY.into_iter().filter(|name| !kept(name) && std::env::var_os(name).is_some());
            let lines: Vec<_> = set.chain(astray.map(|name| arguments.shell.unset(name))).collect();
            data(&lines.join("\n"))?;
        }
    }
    if stdout().is_terminal() {
        next(match arguments.shell {
            Shell::Sh => "eval \"$(cumulet env)\"",
            Shell::Fish => "cumulet env --shell fish | source",
        });
    }
    if let Some(path) = find_program("aws")
        && let Some(version) = version_of(&path).await
        && version < version.first_to_obey()
    {
        report(&TooOld { path, version });
    }
    Ok(())
}

/// The version of an `aws`: its three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct AwsVersion([u32; 3]);

impl AwsVersion {
    /// Reads `aws-cli/1.22.34 Python/3.10.6 …`.
    fn parse(text: &str) -> Option<Self> {
        let version = text.trim_start().strip_prefix("aws-cli/")?.split_ascii_whitespace().next()?;
        let mut numbers = version.split('.').map(|number| number.parse().ok());
        Some(Self([numbers.next()??, numbers.next()??, numbers.next()??]))
    }

    /// The first version of the same line that obeys `AWS_ENDPOINT_URL`: by the change logs of both, 2.13.0 and 1.29.0.
    fn first_to_obey(self) -> Self {
        if self.0[0] >= 2 { Self([2, 13, 0]) } else { Self([1, 29, 0]) }
    }
}

impl std::fmt::Display for AwsVersion {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [major, minor, patch] = self.0;
        write!(formatter, "{major}.{minor}.{patch}")
    }
}

/// An `aws` that takes the endpoint for nothing and calls the real AWS.
#[derive(Debug, thiserror::Error)]
#[error("{} is version {version}, which does not obey AWS_ENDPOINT_URL and would ask the real AWS", path.display())]
struct TooOld {
    path: PathBuf,
    version: AwsVersion,
}

impl Remedy for TooOld {
    fn hint(&self) -> Option<String> {
        let newer = self.version.first_to_obey();
        Some(format!(
            "take {newer} or newer, for example: python3 -m venv ~/aws && ~/aws/bin/pip install awscli; or give every \
             command --endpoint-url $AWS_ENDPOINT_URL"
        ))
    }
}

/// Where a program is on the user's path.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// What an `aws` says of its version, if it says it in time.
async fn version_of(aws: &Path) -> Option<AwsVersion> {
    let mut command = Command::new(aws);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(AWS_PATIENCE, command.output()).await.ok()?.ok()?;
    // Those that ran on Python 2 said it on stderr.
    let said = [output.stdout, output.stderr];
    said.iter().find_map(|text| AwsVersion::parse(&String::from_utf8_lossy(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_obey_are_told_from_those_that_do_not() {
        for (text, obeys) in [
            ("aws-cli/1.22.34 Python/3.10.6 Linux/5.15 botocore/1.23.34\n", false),
            ("aws-cli/1.28.1 Python/3.11.7", false),
            ("aws-cli/1.29.0 Python/3.11.7", true),
            ("aws-cli/1.45.11 Python/3.11.7", true),
            ("aws-cli/2.12.7 Python/3.11.4 exe/x86_64", false),
            ("aws-cli/2.13.0 Python/3.11.4 exe/x86_64", true),
        ] {
            let version = AwsVersion::parse(text).unwrap();
            assert_eq!(version >= version.first_to_obey(), obeys, "{text}");
        }
        for text in ["", "aws-cli/", "aws-cli/1.2", "aws-cli/2.x.1 Python", "bash: aws: not found"] {
            assert_eq!(AwsVersion::parse(text), None, "{text}");
        }
    }
}
