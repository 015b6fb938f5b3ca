//! Sixteen-bit floats, as vectors are kept: half the space, and a cosine that differs by less than 0.001. Pure.

/// Nearest half-precision value, ties to even; too large becomes infinite.
pub(crate) fn to_half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let exponent = ((bits >> 23) & 0xff) as i32 - 112;
    let fraction = bits & 0x007f_ffff;
    if exponent >= 31 {
        let not_a_number = (bits & 0x7fff_ffff) > 0x7f80_0000;
        return sign | 0x7c00 | (u16::from(not_a_number) << 9);
    }
    let (kept, dropped_bits) = if exponent > 0 {
        (((exponent as u32) << 23) | fraction, 13)
    } else if exponent > -11 {
        (fraction | 0x0080_0000, (14 - exponent) as u32)
    } else {
        return sign;
    };
    let (half, rest) = (kept >> dropped_bits, kept & ((1 << dropped_bits) - 1));
    let middle = 1 << (dropped_bits - 1);
    let up = rest > middle || (rest == middle && half & 1 == 1);
    // Rounding up may carry into the exponent, which is then still the right value.
    sign | (half + u32::from(up)) as u16
}

pub(crate) fn from_half(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let (exponent, fraction) = (u32::from(half >> 10) & 0x1f, u32::from(half & 0x3ff));
    let magnitude = match exponent {
        0 => return f32::from_bits(sign) + (fraction as f32 / 16_777_216.0) * if sign == 0 { 1.0 } else { -1.0 },
        31 => 0x7f80_0000 | (fraction << 13),
        _ => ((exponent + 112) << 23) | (fraction << 13),
    };
    f32::from_bits(sign | magnitude)
}

pub(crate) fn pack(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|value| to_half(*value).to_le_bytes()).collect()
}

pub(crate) fn unpack(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(2).map(|pair| from_half(u16::from_le_bytes([pair[0], pair[1]]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_comes_back_and_roundings_are_nearest() {
        for half in 0..=u16::MAX {
            let value = from_half(half);
            if !value.is_nan() {
                assert_eq!(to_half(value), half, "{value}");
            }
        }
        assert_eq!(from_half(to_half(0.1)), 0.099_975_586);
        assert_eq!(to_half(1.0 + 1.0 / 2048.0), to_half(1.0), "a tie goes to even");
        assert_eq!(to_half(65_520.0), 0x7c00);
        assert_eq!(to_half(1e-9), 0);
    }
}
