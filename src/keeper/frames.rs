//! Records in a file that is only ever appended to. PURE.
//!
//! A record is a key and a JSON text; the last one of a key counts, and one without text removes it. What belongs
//! together is one frame: its length, its CRC-32, its records, one per line. A frame that was cut off or damaged counts
//! as never written, and so does all that follows it.
//!
//! ```text
//! length: u32 LE │ CRC-32 of the payload: u32 LE │ payload: "key json\n" or "key\n", repeated
//! ```

use std::collections::BTreeMap;

/// Length of the header of a frame, in bytes.
pub const HEADER: usize = 8;
/// Longest payload, in bytes. A header that announces more is damaged.
const LONGEST: usize = 1 << 30;

/// The last record of each key: its JSON text by its key.
pub type Records = BTreeMap<String, String>;

/// Adds a record to a payload; without `json`, the removal of the key. The key has no space; neither has a line break.
pub fn add(payload: &mut Vec<u8>, key: &str, json: Option<&str>) {
    debug_assert!(!key.contains([' ', '\n']) && !json.is_some_and(|json| json.contains('\n')), "{key}");
    payload.extend_from_slice(key.as_bytes());
    if let Some(json) = json {
        payload.push(b' ');
        payload.extend_from_slice(json.as_bytes());
    }
    payload.push(b'\n');
}

/// The header of a payload: its length and its CRC-32.
#[must_use]
pub fn header(payload: &[u8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    header
}

/// A whole frame: header and payload.
#[must_use]
pub fn frame(payload: &[u8]) -> Vec<u8> {
    [&header(payload)[..], payload].concat()
}

/// The records of a payload: key, and text unless it is a removal.
pub fn lines(payload: &[u8]) -> impl Iterator<Item = (&str, Option<&str>)> {
    payload.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).filter_map(|line| {
        let line = std::str::from_utf8(line).ok()?;
        Some(line.split_once(' ').map_or((line, None), |(key, json)| (key, Some(json))))
    })
}

/// Reads frames into `records`, up to the end or the first damage. Returns how many bytes were whole frames.
pub fn read(bytes: &[u8], records: &mut Records) -> usize {
    let mut at = 0;
    while let Some(payload) = payload_at(bytes, at) {
        for (key, json) in lines(payload) {
            match json {
                Some(json) => drop(records.insert(key.to_owned(), json.to_owned())),
                None => drop(records.remove(key)),
            }
        }
        at += HEADER + payload.len();
    }
    at
}

/// True if a whole frame begins anywhere in these bytes: then what stands before it was damaged, not merely cut off.
#[must_use]
pub fn any_in(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| payload_at(bytes, at).is_some())
}

/// The payload of the frame that begins at this offset, if the frame is whole.
fn payload_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let header = bytes.get(at..at + HEADER)?;
    let number = |range: std::ops::Range<usize>| header[range].try_into().map(u32::from_le_bytes).ok();
    let (length, sum) = (number(0..4)? as usize, number(4..8)?);
    let payload = bytes.get(at + HEADER..)?.get(..length)?;
    (length > 0 && length <= LONGEST && crc32fast::hash(payload) == sum).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut payload = Vec::new();
        add(&mut payload, "a", Some("{\"x\": 1}"));
        add(&mut payload, "b", Some("2"));
        let mut bytes = frame(&payload);
        payload.clear();
        add(&mut payload, "b", None);
        add(&mut payload, "a", Some("3"));
        bytes.extend(frame(&payload));
        bytes
    }

    #[test]
    fn the_last_record_of_a_key_counts() {
        let (bytes, mut records) = (sample(), Records::new());
        assert_eq!(read(&bytes, &mut records), bytes.len());
        assert_eq!(records, Records::from([("a".to_owned(), "3".to_owned())]));
    }

    #[test]
    fn a_frame_counts_whole_or_not_at_all() {
        let whole = sample();
        let first = HEADER + u32::from_le_bytes(whole[..4].try_into().unwrap()) as usize;
        for cut in 0..whole.len() {
            let mut records = Records::new();
            let good = read(&whole[..cut], &mut records);
            assert_eq!(good, if cut < first { 0 } else { first }, "cut at {cut}");
            assert_eq!(records.len(), if cut < first { 0 } else { 2 });
        }
    }

    #[test]
    fn damage_is_distinguished_from_a_cut() {
        let whole = sample();
        let first = HEADER + u32::from_le_bytes(whole[..4].try_into().unwrap()) as usize;
        for cut in 1..whole.len() {
            assert_eq!(any_in(&whole[cut..]), cut <= first, "without the first {cut} bytes");
        }
        assert!(!any_in(&[0; 64]));
    }

    #[test]
    fn a_single_damaged_bit_ends_the_reading() {
        let whole = sample();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            assert!(read(&bytes, &mut Records::new()) < whole.len(), "bit of byte {at}");
        }
    }
}
