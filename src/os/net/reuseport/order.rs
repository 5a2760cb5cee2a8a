//! Which indices of the kernel's list are reliable, when sockets leave it in an unknown order.
//!
//! A program can remove its socket by `shutdown` long before the daemon notices. If several programs did, the order in
//! which they did stays unknown. So a member is *sure* only while its index is known. The members that are not sure
//! share a set of indices: the program in the kernel may use all of these indices together, but none of them alone.
//! They become sure again as others leave.
//!
//! While `k` programs that got their stop signal may remove their sockets, the indices up to `n - k` of `n` members are
//! safe: a removal moves only the last of the list, and index `n - k` is the last after all but one of the `k` have
//! left. After the last of them it may be beyond the list. Then the kernel chooses any socket, and any is right by
//! then.

use super::group::{Group, Member};

impl Group {
    /// Removes members that have left the kernel's list, given by ascending index, and returns them.
    pub(super) fn forget(&mut self, gone: &[usize]) -> Vec<Member> {
        let stay = self.members.len() - gone.len();
        self.departures += 1;
        let order_is_known = matches!(gone, [one] if self.members[*one].sure);
        if !order_is_known {
            self.members[stay..].iter_mut().for_each(|member| member.sure = false);
        }
        let gone = gone.iter().rev().map(|at| self.members.swap_remove(*at)).collect();
        let mut unsure = self.members.iter_mut().filter(|member| !member.sure);
        // If only one member is not sure, only one index is left for it.
        if let (Some(alone), None) = (unsure.next(), unsure.next()) {
            alone.sure = true;
        }
        gone
    }

    /// Indices of the members for which `is_in` holds, as far as they are reliable. If there are none, the indices of
    /// all members for which it holds, or of all members.
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
