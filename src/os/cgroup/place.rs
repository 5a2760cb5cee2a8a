//! The groups of a process in the cgroup hierarchies, read from the kernel's texts. PURE.

use std::path::{Path, PathBuf};

/// One mounted hierarchy, and the folder of the group that a process is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// True for the unified hierarchy (v2).
    pub(super) unified: bool,
    /// Controllers of a v1 hierarchy.
    pub(super) controllers: Vec<String>,
    /// The folder of the group that the process is in.
    pub(super) folder: PathBuf,
}

/// Combines `/proc/PID/mountinfo` and `/proc/PID/cgroup`.
pub(super) fn places(mountinfo: &str, cgroup: &str) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for mount in mountinfo.lines().filter_map(Mount::parse) {
        let Some((controllers, path)) = memberships(cgroup).find(|(controllers, _)| mount.holds(controllers)) else {
            continue;
        };
        let place = Place {
            unified: mount.unified,
            controllers: controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            folder: mount.folder(path),
        };
        // A hierarchy may be mounted twice.
        if !places.iter().any(|known| known.unified == place.unified && known.controllers == place.controllers) {
            places.push(place);
        }
    }
    places
}

/// Controllers and path of each line `4:memory:/a/b`; the unified hierarchy has no controllers here.
pub(super) fn memberships(cgroup: &str) -> impl Iterator<Item = (&str, &str)> {
    cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'))
}

struct Mount {
    unified: bool,
    /// Path of the group that is mounted. In a container it is not always the top one.
    root: String,
    point: String,
    options: String,
}

impl Mount {
    /// `35 31 0:32 /root /point rw,relatime shared:1 - cgroup cgroup rw,memory`
    fn parse(line: &str) -> Option<Mount> {
        let (before, after) = line.split_once(" - ")?;
        let (mut before, mut after) = (before.split(' ').skip(3), after.split(' '));
        let unified = match after.next()? {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        let options = after.nth(1)?.to_owned();
        Some(Mount { unified, root: plain(before.next()?), point: plain(before.next()?), options })
    }

    fn holds(&self, controllers: &str) -> bool {
        if self.unified || controllers.is_empty() {
            return self.unified && controllers.is_empty();
        }
        controllers.split(',').all(|name| self.options.split(',').any(|option| option == name))
    }

    fn folder(&self, path: &str) -> PathBuf {
        let inner = Path::new(path).strip_prefix(&self.root).unwrap_or(Path::new(""));
        // The path of a group outside of the mounted part begins with `..`: then only the top of the mount can be
        // reached.
        let inner = if inner.starts_with("..") { Path::new("") } else { inner };
        Path::new(&self.point).join(inner)
    }
}

/// Decodes spaces and other characters that `mountinfo` writes in octal.
fn plain(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
24 1 0:5 / /dev rw - devtmpfs devtmpfs rw
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
";

    fn place(unified: bool, controllers: &[&str], folder: &str) -> Place {
        Place { unified, controllers: controllers.iter().map(ToString::to_string).collect(), folder: folder.into() }
    }

    #[test]
    fn hierarchies_of_both_versions_are_found_side_by_side() {
        let cgroup = "4:memory:/jobs/7\n2:cpu,cpuacct:/\n3:pids:/\n1:name=systemd:/x\n0::/user/a:b\n";
        assert_eq!(
            places(HYBRID, cgroup),
            [
                place(false, &["memory"], "/sys/fs/cgroup/memory/jobs/7"),
                place(false, &["cpu", "cpuacct"], "/sys/fs/cgroup/cpu,cpuacct"),
                place(true, &[], "/sys/fs/cgroup/unified/user/a:b"),
            ]
        );
    }

    #[test]
    fn in_a_container_paths_are_relative_to_the_mounted_group() {
        let mounted = "41 31 0:38 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(places(mounted, "0::/docker/abc/in\n"), [place(true, &[], "/sys/fs/cgroup/in")]);
        let outside = "41 31 0:38 / /mnt/with\\040space rw - cgroup2 cgroup rw\n";
        assert_eq!(places(outside, "0::/../other\n"), [place(true, &[], "/mnt/with space")]);
    }

    #[test]
    fn without_mounted_hierarchies_there_are_no_places() {
        assert_eq!(places("24 1 0:5 / /dev rw - devtmpfs devtmpfs rw\n", "0::/\n"), []);
        assert_eq!(places("", ""), []);
    }
}
