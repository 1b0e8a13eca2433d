"""Where objects come from: raw documents -> crds -> ConfigStore."""
