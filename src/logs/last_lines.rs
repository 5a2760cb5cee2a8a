//! Finds where the last lines of a file begin, reading backwards from its end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes read at a time.
const BLOCK: u64 = 64 << 10;

/// Offset in bytes at which the last `lines` lines of `file` begin. Reads only the blocks with those lines; memory is
/// one block. A last line without a newline counts as a line. With `lines` 0: the end.
///
/// # Errors
/// When the file cannot be read. If it shrinks meanwhile, the offset is 0.
pub fn start_of_last_lines(file: &File, lines: usize) -> io::Result<u64> {
    let end = file.metadata()?.len();
    let mut remaining = lines;
    if remaining == 0 {
        return Ok(end);
    }
    let mut block = vec![0; BLOCK.min(end) as usize];
    let mut position = end;
    while position > 0 {
        let length = BLOCK.min(position);
        position -= length;
        let block = &mut block[..length as usize];
        match file.read_exact_at(block, position) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
            other => other?,
        }
        for index in memchr::memrchr_iter(b'\n', block) {
            let after = position + index as u64 + 1;
            // The newline at the end of the file ends the last line and begins none.
            if after == end {
                continue;
            }
            remaining -= 1;
            if remaining == 0 {
                return Ok(after);
            }
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{BuildHasher, Hasher};
    use std::io::Write;

    /// The simple algorithm: splits all lines and takes the last ones.
    fn model(bytes: &[u8], lines: usize) -> u64 {
        let mut starts: Vec<usize> = Vec::new();
        let mut at = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            starts.push(at);
            at += line.len();
        }
        if lines == 0 {
            at as u64
        } else {
            starts.get(starts.len().saturating_sub(lines)).map_or(0, |start| *start as u64)
        }
    }

    fn check(bytes: &[u8], lines: usize, seed: u64) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let found = start_of_last_lines(&file, lines).unwrap();
        assert_eq!(found, model(bytes, lines), "{} bytes, {lines} lines, seed {seed}", bytes.len());
    }

    #[test]
    fn small_files_are_split_as_the_model_splits_them() {
        for bytes in [&b""[..], b"\n", b"\n\n", b"a", b"a\n", b"a\nb", b"a\nb\n", b"\na\n\n\xff\xfe\n"] {
            for lines in 0..6 {
                check(bytes, lines, 0);
            }
        }
    }

    #[test]
    fn random_files_are_split_as_the_model_splits_them() {
        let seed = std::hash::RandomState::new().build_hasher().finish() | 1;
        let mut state = seed;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..60 {
            let longest = [3, 200, 70_000, 300_000][random(4) as usize];
            let mut bytes = Vec::new();
            for _ in 0..random(40) {
                bytes.extend(std::iter::repeat_n(0xc3, random(longest) as usize));
                bytes.push(b'\n');
            }
            if random(2) == 0 {
                bytes.pop();
            }
            check(&bytes, random(45) as usize, seed);
        }
    }
}
