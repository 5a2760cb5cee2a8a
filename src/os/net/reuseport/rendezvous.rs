//! Which of several a client belongs to, so that it is always the same, and few clients change when one comes or goes.
//! PURE.
//!
//! Rendezvous hashing: each is hashed together with the client, and the highest number wins. The clients of one that
//! leaves spread over the others, one that comes takes a few from each, and nobody else's change.
//!
//! The programs in the kernel cannot do that for each connection, so they only tell clients apart, by a hash of the
//! address, into *buckets*, and are told who has which bucket. The hash is written down here, for both of them: the
//! address' words are folded into one, which is then mixed so that each of its bits counts for every bucket. An address
//! of IPv4 counts as what it is in IPv6 (`::ffff:127.0.0.1`), which is what some structures in the kernel hold of it.

/// How many buckets there are where everything is in maps, and where the whole program grows with them: its size is
/// limited by `net.core.optmem_max`, 20 KB in older kernels.
pub(super) const BUCKETS: u32 = 1024;
pub(super) const FEW_BUCKETS: u32 = 256;

/// What the words before are multiplied by as the next one is added.
pub(super) const FOLD: u32 = 0x9E37_79B1;
/// What stands before the address of IPv4 in that of IPv6.
pub(super) const MAPPED: u32 = 0xffff;
/// The mixing, step by step: a shift to the right of which the exclusive or is taken, then a multiplication
/// (`lowbias32` by Chris Wellons).
pub(super) const MIX: [(u32, u32); 3] = [(16, 0x7FEB_352D), (15, 0x846C_A68B), (16, 1)];

/// How much a client, or a bucket of them, belongs to what has this number: all over the range, and always the same.
#[must_use]
pub fn affinity(client: u64, number: u32) -> u64 {
    scatter(client ^ scatter(u64::from(number) + 1))
}

/// The finalizer of SplitMix64.
#[must_use]
pub fn scatter(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// The bucket of a client as the kernel's programs find it.
#[cfg(test)]
pub(super) fn bucket(client: std::net::IpAddr, buckets: u32) -> u32 {
    let bits = match client {
        std::net::IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        std::net::IpAddr::V6(address) => address.to_bits(),
    };
    let words = [96, 64, 32, 0].map(|shift| (bits >> shift) as u32);
    let folded = words.into_iter().fold(0_u32, |all, word| all.wrapping_mul(FOLD).wrapping_add(word));
    let mix = |number: u32, (shift, factor): (u32, u32)| (number ^ (number >> shift)).wrapping_mul(factor);
    MIX.into_iter().fold(folded, mix) % buckets
}
