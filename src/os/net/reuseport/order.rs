//! Which indices of the kernel's list may be named, as sockets leave it in an order that nobody knows.
//!
//! A program can take its socket out by `shutdown` long before we hear of it, and of several that did, we never hear
//! who was first. So a member is *sure* only while its index is known; those that are not have some of the same
//! indices, and may be named together, but not apart. They become sure again as others leave.
//!
//! While `k` programs that were told to stop may take their sockets out, of `n` members those at an index up to `n - k`
//! are safe: only the last of the list is moved, and the one at `n - k` is the last when all `k` but one are gone.
//! After the very last it may lie beyond the list, where the kernel takes any, and any is right by then.

use super::group::{Group, Member};

impl Group {
    /// Takes out members, by ascending index, that have left the kernel's list.
    pub(super) fn forget(&mut self, gone: &[usize]) -> Vec<Member> {
        let stay = self.members.len() - gone.len();
        self.departures += 1;
        let order_is_known = matches!(gone, [one] if self.members[*one].sure);
        if !order_is_known {
            self.members[stay..].iter_mut().for_each(|member| member.sure = false);
        }
        let gone = gone.iter().rev().map(|at| self.members.swap_remove(*at)).collect();
        let mut unsure = self.members.iter_mut().filter(|member| !member.sure);
        // For one alone there is but one place.
        if let (Some(alone), None) = (unsure.next(), unsure.next()) {
            alone.sure = true;
        }
        gone
    }

    /// Indices of members that are in, as far as they can be named; without any, those of all that are in, or of all.
    pub(super) fn indices(&self, is_in: impl Fn(&Member, usize) -> bool) -> Vec<usize> {
        let all = || 0..self.members.len();
        let is_in = |index: &usize| is_in(&self.members[*index], *index);
        let sure = |index: &usize| self.members[*index].sure;
        let together = all().filter(|index| !sure(index)).all(|index| is_in(&index));
        let steady = self.members.len() - self.members.iter().filter(|member| member.leaving).count();
        let named = || all().filter(is_in).filter(|index| sure(index) || together);
        let choices =
            [named().filter(|index| *index <= steady).collect(), named().collect(), all().filter(is_in).collect()];
        choices.into_iter().find(|some: &Vec<usize>| !some.is_empty()).unwrap_or_else(|| all().collect())
    }
}
