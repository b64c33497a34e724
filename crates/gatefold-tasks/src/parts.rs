//! Which sequences are for the test, and which for the validation of each network.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// A class with fewer training sequences than this is in no validation part: it could not be learnt without them.
const FEW: usize = 4;

/// Draws a share of the members of each class for the test, at least one of each class that has two.
///
/// Returns the places for training and those for the test, each in rising order.
pub fn stratified(classes: &[usize], share: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let (mut training, mut test) = (Vec::new(), Vec::new());
    for members in by_class(classes, 0..classes.len(), seed) {
        let wanted = (share * members.len() as f64).round() as usize;
        let taken = if share > 0.0 { wanted.max(1).min(members.len() - 1) } else { 0 };
        test.extend_from_slice(&members[..taken]);
        training.extend_from_slice(&members[taken..]);
    }
    training.sort_unstable();
    test.sort_unstable();
    (training, test)
}

/// Splits training places into those that network `fold` learns from and those it is validated on; the folds of networks
/// with the same seed do not overlap, and each holds about `1 / folds` of every class.
pub fn fold(
    classes: &[usize],
    training: &[usize],
    fold: usize,
    folds: usize,
    seed: u64,
) -> (Vec<usize>, Vec<usize>) {
    let (mut learnt, mut validated) = (Vec::new(), Vec::new());
    let mut dealt = 0;
    for members in by_class(classes, training.iter().copied(), seed) {
        for member in &members {
            let held_out = members.len() >= FEW && dealt % folds == fold;
            dealt += usize::from(members.len() >= FEW);
            if held_out { &mut validated } else { &mut learnt }.push(*member);
        }
    }
    learnt.sort_unstable();
    validated.sort_unstable();
    (learnt, validated)
}

/// The places of each class, shuffled.
fn by_class(classes: &[usize], places: impl Iterator<Item = usize>, seed: u64) -> Vec<Vec<usize>> {
    let mut found = vec![Vec::new(); classes.iter().max().map_or(0, |most| most + 1)];
    places.for_each(|place| found[classes[place]].push(place));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(u64::MAX); // the updates of a training have the others
    found.iter_mut().for_each(|members| members.shuffle(&mut random));
    found.retain(|members| !members.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_in_both_parts_in_its_share() {
        let classes: Vec<usize> = (0..100)
            .map(|at| {
                if at < 60 {
                    0
                } else if at < 99 {
                    1
                } else {
                    3
                }
            })
            .collect();
        let (training, test) = stratified(&classes, 0.2, 1);
        let count = |places: &[usize], class| places.iter().filter(|at| classes[**at] == class).count();
        assert_eq!([0, 1, 3].map(|class| count(&test, class)), [12, 8, 0]);
        assert_eq!(training.len() + test.len(), 100);
        assert!(training.iter().all(|at| !test.contains(at)));
        assert_ne!(test, stratified(&classes, 0.2, 2).1);
        assert_eq!(test, stratified(&classes, 0.2, 1).1);
    }

    #[test]
    fn folds_cover_the_training_part_without_overlap() {
        let classes: Vec<usize> = (0..40).map(|at| at % 3).collect();
        let training: Vec<usize> = (0..30).collect();
        let mut seen = Vec::new();
        for k in 0..6 {
            let (learnt, validated) = fold(&classes, &training, k, 6, 5);
            assert_eq!((learnt.len(), validated.len()), (25, 5));
            assert!(validated.iter().all(|at| !learnt.contains(at) && *at < 30));
            seen.extend(validated);
        }
        seen.sort_unstable();
        assert_eq!(seen, training);
        let few = [0, 0, 0, 1, 1, 1, 1];
        assert!((0..6).all(|k| fold(&few, &[0, 1, 2, 3, 4, 5, 6], k, 6, 1).1.iter().all(|at| few[*at] == 1)));
    }
}
