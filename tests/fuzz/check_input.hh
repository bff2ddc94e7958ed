// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an input of the target `check` says: a COW file and its surroundings. A
 * file with a header of 4 KiB, a bitmap somewhere and a length beyond all that is
 * a few dozen bytes of input.
 *
 *	u8	bits 0-2 what the backing file is like, 3 it has another time, 4-5 by
 *		which name the COW file is called, 6 a merge was begun
 *	u8, i8	which length the COW file gets, and so many bytes more
 *	u8	bits 0-2 which kind of call fails, 3-5 so many of these go well before
 *	u8	bits 0-1 how it fails, 6 there is a diff, 7 info and map in JSON
 *	u16	length of what follows: the file's beginning
 *	pieces	u8 relative to what (bit 7: repeated), u16 where, u8 length, bytes
 */
#ifndef UBD_FUZZ_CHECK_INPUT_HH
#define UBD_FUZZ_CHECK_INPUT_HH

#include "check_host.hh"
#include "check_model.hh"

namespace ubd::fuzz
{

class CheckInput {
public:
	CheckInput(const u8 *data, size_t bytes);

	Content cow, base;
	u64 base_mtime = 0;
	std::string name; // of the COW file, as ubd-cow is told
	bool json = false, diff = false;
	HostFault fault;

private:
	void parse();
	void add_pieces(Input &in);
	void add_mark();
	void set_length(u8 kind, s32 more);
	void make_base(u8 kind);
	void choose_fault(u8 call, u8 how);
	u64 place(u8 relative_to, u64 where) const;

	CowHeader header_;
	bool good_ = false; // if the file is long enough for it
};

} // namespace ubd::fuzz

#endif
