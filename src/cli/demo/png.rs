//! A PNG writer for the demo's pictures: true colour, stored (not compressed) blocks, nothing but arithmetic.

use bytes::{BufMut, Bytes, BytesMut};

/// The largest stored block of a deflate stream (RFC 1951 §3.2.4).
const STORED_BLOCK_BYTES_MAX: usize = 65_535;

/// A square picture of `side` pixels whose colours follow from `seed`: the same seed, the same picture.
pub fn picture(side: u32, seed: u32) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(b"\x89PNG\r\n\x1a\n");
    let mut head = BytesMut::new();
    head.put_u32(side);
    head.put_u32(side);
    // 8 bits a channel, true colour, deflate, no filter, not interlaced
    head.put_slice(&[8, 2, 0, 0, 0]);
    chunk(&mut out, *b"IHDR", &head);
    chunk(&mut out, *b"IDAT", &zlib(&pixels(side, seed)));
    chunk(&mut out, *b"IEND", &[]);
    out.freeze()
}

/// Rows of RGB, each led by its filter type 0.
fn pixels(side: u32, seed: u32) -> Vec<u8> {
    let mut rows = Vec::new();
    for y in 0..side {
        rows.push(0);
        for x in 0..side {
            rows.extend([low_byte(x * 4 + seed), low_byte(y * 4 + seed / 7), low_byte((x ^ y) * 2 + seed / 13)]);
        }
    }
    rows
}

fn low_byte(n: u32) -> u8 {
    let [_, _, _, low] = n.to_be_bytes();
    low
}

/// A zlib stream (RFC 1950) of stored blocks.
fn zlib(data: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_slice(&[0x78, 0x01]);
    let blocks = data.chunks(STORED_BLOCK_BYTES_MAX);
    let last = blocks.len().saturating_sub(1);
    for (index, block) in blocks.enumerate() {
        let len = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.put_u8(u8::from(index == last));
        out.put_u16_le(len);
        out.put_u16_le(!len);
        out.put_slice(block);
    }
    out.put_u32(adler32(data));
    out
}

fn chunk(out: &mut BytesMut, kind: [u8; 4], data: &[u8]) {
    out.put_u32(u32::try_from(data.len()).unwrap_or(u32::MAX));
    out.put_slice(&kind);
    out.put_slice(data);
    out.put_u32(crc32(kind.iter().chain(data)));
}

/// CRC-32 as PNG wants it (ISO 3309), bit by bit: the pictures are made once.
fn crc32<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(u32::MAX, |mut crc, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
        crc
    })
}

/// Adler-32 (RFC 1950 §9).
fn adler32(data: &[u8]) -> u32 {
    let (a, b) = data.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    (b << 16) | a
}
