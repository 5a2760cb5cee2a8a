//! Which of several members a client belongs to: always the same one, and few clients change their member when one
//! joins or leaves. PURE.
//!
//! Rendezvous hashing: the client is hashed together with each member, and the highest number wins. The clients of a
//! member that leaves are spread over the others, a member that joins takes a few clients from each, and no other
//! client changes.
//!
//! The programs in the kernel cannot do that for each connection. They only sort clients into *buckets*, by a hash of
//! the address, and a table says which member has which bucket. The hash is defined here for both programs. The words
//! of the address are folded into one, which is then mixed so that each of its bits affects the bucket. An address of
//! IPv4 counts in its IPv6 form (`::ffff:127.0.0.1`), in which some structures of the kernel hold it.

/// Number of buckets for the balancer with maps, and for the one whose program grows with the number. The kernel limits
/// the size of that program by `net.core.optmem_max`, 20 KB in older kernels.
pub(super) const BUCKETS: u32 = 1024;
pub(super) const FEW_BUCKETS: u32 = 256;

/// Factor for the folded words before the next one is added.
pub(super) const FOLD: u32 = 0x9E37_79B1;
/// The word before the IPv4 address in its IPv6 form.
pub(super) const MAPPED: u32 = 0xffff;
/// The mixing, step by step: a shift to the right of which the exclusive or is taken, then a multiplication
/// (`lowbias32` by Chris Wellons).
pub(super) const MIX: [(u32, u32); 3] = [(16, 0x7FEB_352D), (15, 0x846C_A68B), (16, 1)];

/// The weight of a client, or of a bucket of clients, for the member with this number. The member with the highest
/// weight gets it. Weights are spread over the whole range, and are always the same.
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

/// The bucket of a client, as the programs in the kernel compute it.
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
