//! Lists with a place for each value of the layer graph.

use gatefold_model::Source;
use std::ops::Index;

/// Items by the value that they belong to. Places stay when items go, so that the next pass finds room.
#[derive(Clone, Debug)]
pub(crate) struct BySource<T>(Vec<Option<T>>);

impl<T> Default for BySource<T> {
    fn default() -> Self {
        BySource(Vec::new())
    }
}

/// The place of a value: after those of the layers before.
fn place(source: Source) -> usize {
    match source {
        Source::Input => 0,
        Source::DecoderInput => 1,
        Source::Output(layer) => 2 + 2 * layer,
        Source::FinalHidden(layer) => 3 + 2 * layer,
    }
}

fn source(place: usize) -> Source {
    match place {
        0 => Source::Input,
        1 => Source::DecoderInput,
        place if place % 2 == 0 => Source::Output(place / 2 - 1),
        place => Source::FinalHidden(place / 2 - 1),
    }
}

impl<T> BySource<T> {
    pub(crate) fn get(&self, source: Source) -> Option<&T> {
        self.0.get(place(source))?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, source: Source) -> Option<&mut T> {
        self.0.get_mut(place(source))?.as_mut()
    }

    pub(crate) fn insert(&mut self, source: Source, item: T) {
        let place = place(source);
        if self.0.len() <= place {
            self.0.resize_with(place + 1, || None);
        }
        self.0[place] = Some(item);
    }

    pub(crate) fn remove(&mut self, source: Source) -> Option<T> {
        self.0.get_mut(place(source))?.take()
    }

    pub(crate) fn clear(&mut self) {
        self.0.iter_mut().for_each(|item| *item = None);
    }

    /// The items, in the order of the layers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Source, &T)> {
        self.0.iter().enumerate().filter_map(|(place, item)| Some((source(place), item.as_ref()?)))
    }

    /// [`BySource::iter`], to change the items.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Source, &mut T)> {
        self.0.iter_mut().enumerate().filter_map(|(place, item)| Some((source(place), item.as_mut()?)))
    }
}

impl<T> Index<Source> for BySource<T> {
    type Output = T;

    fn index(&self, source: Source) -> &T {
        self.get(source).expect("the value was made")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_place_of_its_own() {
        for at in 0..20 {
            assert_eq!(place(source(at)), at);
        }
        let mut items = BySource::default();
        items.insert(Source::Output(1), 'b');
        items.insert(Source::Input, 'a');
        assert_eq!(items.iter().collect::<Vec<_>>(), [(Source::Input, &'a'), (Source::Output(1), &'b')]);
        assert_eq!(items.remove(Source::Input), Some('a'));
        assert_eq!((items.get(Source::Input), items.get(Source::FinalHidden(7))), (None, None));
    }
}
