//! Protobuf bytes, written from their end to their beginning: the length of a nested message is known by the time it is
//! written, so nothing is measured first or moved later. Upstream's generated marshallers go the same way.

/// Bytes in reverse order. Fields are written last to first.
#[derive(Default)]
pub(crate) struct Backward {
    reversed: Vec<u8>,
}

impl Backward {
    pub(crate) fn with_capacity(capacity: usize) -> Backward {
        Backward { reversed: Vec::with_capacity(capacity) }
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.reversed.reverse();
        self.reversed
    }

    /// Where a message ends, for [`Backward::close`].
    pub(crate) fn mark(&self) -> usize {
        self.reversed.len()
    }

    /// Puts tag and length before all that was written since `mark`.
    pub(crate) fn close(&mut self, tag: u32, mark: usize) {
        let length = self.reversed.len() - mark;
        self.number(length as u64);
        self.key(tag, 2);
    }

    pub(crate) fn bytes(&mut self, tag: u32, bytes: &[u8]) {
        let mark = self.mark();
        self.raw(bytes);
        self.close(tag, mark);
    }

    pub(crate) fn varint(&mut self, tag: u32, number: u64) {
        self.number(number);
        self.key(tag, 0);
    }

    pub(crate) fn double(&mut self, tag: u32, number: f64) {
        self.raw(&number.to_bits().to_le_bytes());
        self.key(tag, 1);
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.reversed.extend(bytes.iter().rev());
    }

    fn key(&mut self, tag: u32, wire: u8) {
        self.number(u64::from(tag) << 3 | u64::from(wire));
    }

    fn number(&mut self, number: u64) {
        let (bytes, length) = varint(number);
        self.raw(&bytes[..length]);
    }
}

/// A number in the least bytes that it takes, and how many these are.
pub(crate) fn varint(mut number: u64) -> ([u8; 10], usize) {
    let mut bytes = [0; 10];
    let mut length = 0;
    loop {
        bytes[length] = (number & 0x7f) as u8;
        length += 1;
        number >>= 7;
        if number == 0 {
            return (bytes, length);
        }
        bytes[length - 1] |= 0x80;
    }
}
