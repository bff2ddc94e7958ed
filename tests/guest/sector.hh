// SPDX-License-Identifier: GPL-2.0-only
/*
 * A sector that says by itself which it is and of which record. Written by
 * tool.cc, known again by tests/crash/replay.
 */
#ifndef UBD_TESTS_SECTOR_HH
#define UBD_TESTS_SECTOR_HH

#include <cstddef>
#include <cstdint>

inline uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ull;
	return x ^ x >> 33;
}

inline void make_sector(uint8_t *to, uint64_t record, uint64_t sector)
{
	auto *word = reinterpret_cast<uint64_t *>(to);
	word[0] = record;
	word[1] = sector;
	for (size_t i = 2; i < 512 / 8; i++)
		word[i] = mix(record * 0x10001 + sector * 977 + i);
}

#endif
