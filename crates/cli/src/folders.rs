//! The user's own folders, as the XDG Base Directory Specification lays them out.

use std::path::PathBuf;

use crate::identity::Variables;

/// What a folder is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Folder {
    /// What the user decides: `client.json`.
    Config,
    /// What must not be lost: the user's own key.
    Data,
    /// What is good to keep: the host keys of guests.
    State,
}

impl Folder {
    /// Our folder of that kind, whether or not it exists; none for a user without a home.
    pub(crate) fn path(self, variables: Variables<'_>) -> Option<PathBuf> {
        let (variable, usual) = match self {
            Self::Config => ("XDG_CONFIG_HOME", ".config"),
            Self::Data => ("XDG_DATA_HOME", ".local/share"),
            Self::State => ("XDG_STATE_HOME", ".local/state"),
        };
        let path = |name: &str| variables(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = path(variable).or_else(|| Some(path("HOME")?.join(usual)))?;
        Some(base.join("cumulet"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_win_unless_they_are_relative() {
        let home = |name: &str| (name == "HOME").then(|| "/home/ada".to_owned());
        assert_eq!(Folder::Config.path(&home), Some("/home/ada/.config/cumulet".into()));
        assert_eq!(Folder::State.path(&home), Some("/home/ada/.local/state/cumulet".into()));
        let set = |name: &str| (name == "XDG_DATA_HOME").then(|| "/data".to_owned());
        assert_eq!(Folder::Data.path(&set), Some("/data/cumulet".into()));
        assert_eq!(Folder::Config.path(&set), None);
        let relative = |name: &str| Some(if name == "HOME" { "/home/ada" } else { "data" }.to_owned());
        assert_eq!(Folder::Data.path(&relative), Some("/home/ada/.local/share/cumulet".into()));
    }
}
