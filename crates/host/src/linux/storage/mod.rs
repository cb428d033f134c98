//! Images and volumes as files.
