// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fuzzes `ubd-cow check`, with and without --repair, `info`, `map` and `diff`, on
 * files that anybody may have made. What has to hold:
 *
 *	- a command ends by its status or by a message, whatever the file is, and what
 *	  it says has nothing that a terminal would obey;
 *	- check finds what the model finds, no more and no less; info, map and diff say
 *	  what the model reads;
 *	- nothing is written but by --repair. That changes nothing but, where check
 *	  said so, the file's length to the one it should have, by zeros, and the bits
 *	  behind the last sector to zero; so what a guest reads stays. It is durable
 *	  then, and the next check finds what could not be repaired, and no more;
 *	- no other file is opened for writing, made, removed or changed, and none is
 *	  left open or locked;
 *	- a call of the host's that fails is an error that is told, or a finding;
 *	  one that is interrupted or short changes nothing at all.
 *
 * Input: check_input.hh.
 */
#include "../../tools/cow/commands.hh"
#include "check_input.hh"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>

using namespace ubd;
using namespace ubd::fuzz;
using nlohmann::json;

namespace
{

// More lines only take time.
constexpr size_t most_runs = 1000;

struct Said {
	int status = 0;
	std::string out;
	bool failed = false; // by a message
};

// Nothing that a terminal obeys: control characters, also those of eight bits by
// two bytes, by more than they need, or by one that belongs to no character.
bool is_clean(const std::string &text)
{
	u8 before = 0, to_come = 0;
	for (const char at : text) {
		const u8 c = static_cast<u8>(at);
		const u8 least = before == 0xc2 || before == 0xe0 ? 0xa0 : before == 0xf0 ? 0x90 : 0x80;
		if (c >= 0x80 && c < 0xc0 ? !to_come-- || c < least : to_come || (c < 0x20 && c != '\n') || c == 0x7f)
			return false;
		if (c >= 0xc0)
			to_come = c < 0xc2 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
		before = c;
	}
	return !to_come;
}

Said run(const std::string &writable, HostFault *fault, const std::function<int()> &command)
{
	Said said;
	char *out = nullptr;
	size_t bytes = 0;
	FILE *const before = stdout;
	stdout = open_memstream(&out, &bytes);
	{
		const Watch watch(writable, fault);
		try {
			said.status = command();
			REQUIRE(watch.durable());
		} catch (const tool::Failure &f) {
			said.failed = true;
			said.status = f.status;
			REQUIRE(f.status == tool::status_failed && !f.text.empty() && is_clean(f.text));
		}
	}
	std::fclose(stdout);
	stdout = before;
	said.out.assign(out, bytes);
	std::free(out);
	return said;
}

bool can_be_repaired(const std::string &kind)
{
	return kind == "length" || kind == "bits_beyond_device";
}

std::vector<std::string> kinds_of(const json &said)
{
	std::vector<std::string> kinds;
	for (const json &f : said["findings"])
		kinds.push_back(f["kind"]);
	return kinds;
}

class Case {
public:
	Case(const Files &files, const CheckInput &in)
		: files_(files), in_(in), good_(header_of(in.cow, header_) == CowRead::ok),
		  whole_(good_ && in.cow.size() >= header_.bitmap_offset + header_.bitmap_bytes),
		  findings_(fuzz::findings(in.cow, in.name)), state_(files.state(true)), others_(files.state(false))
	{
		if (whole_)
			runs_ = runs_of(in.cow, header_);
	}

	void look_at() const;
	Content repair() const;
	void fail() const;
	bool has_what_can_be_repaired() const
	{
		return std::any_of(findings_.begin(), findings_.end(), can_be_repaired);
	}

private:
	Said check(bool repair, bool as_json, HostFault *fault = nullptr) const;
	void check_findings(const Said &said, const std::vector<std::string> &wanted, bool repairing) const;
	void check_info() const;
	void check_map() const;
	void check_diff() const;
	void untouched() const;
	bool sound_backing() const;

	const Files &files_;
	const CheckInput &in_;
	CowHeader header_;
	const bool good_, whole_; // the header, and the bitmap too
	const std::vector<std::string> findings_;
	const std::vector<std::string> state_, others_; // of all files, and of those but the COW file
	std::vector<Sectors> runs_;
};

Said Case::check(bool repair, bool as_json, HostFault *fault) const
{
	return run(repair ? in_.name : "", fault, [&] { return tool::check(in_.name, repair, as_json); });
}

void Case::check_findings(const Said &said, const std::vector<std::string> &wanted, bool repairing) const
{
	REQUIRE(!said.failed);
	const json out = json::parse(said.out);
	bool left = false;
	for (const json &f : out["findings"]) {
		REQUIRE(!std::string(f["text"]).empty() && !std::string(f["remedy"]).empty());
		REQUIRE(f["repaired"] == (repairing && can_be_repaired(f["kind"])));
		left = left || !f["repaired"];
	}
	REQUIRE(kinds_of(out) == wanted);
	REQUIRE(out["sound"] == wanted.empty());
	REQUIRE(said.status == (left             ? tool::status_damaged
				: wanted.empty() ? tool::status_done
						 : tool::status_repaired));
}

void Case::untouched() const
{
	REQUIRE(files_.state(true) == state_);
	REQUIRE(files_.cow() == in_.cow);
}

void Case::check_info() const
{
	const Said said = run("", nullptr, [&] { return tool::info(in_.name, in_.json); });
	REQUIRE(said.failed == !whole_);
	if (said.failed)
		return;
	REQUIRE(!said.out.empty() && (in_.json || is_clean(said.out)));
	if (!in_.json)
		return;
	const json out = json::parse(said.out);
	u64 sectors = 0;
	for (const Sectors &r : runs_)
		sectors += r.end - r.first;
	REQUIRE(out["bytes"] == header_.bytes && out["backing_mtime"] == header_.mtime);
	REQUIRE(out["alignment"] == header_.alignment && out["bitmap_offset"] == header_.bitmap_offset);
	REQUIRE(out["bitmap_bytes"] == header_.bitmap_bytes && out["data_offset"] == header_.data_offset);
	REQUIRE(out["cow_bytes"] == sectors * UBD_SECTOR_SIZE);
}

void Case::check_map() const
{
	if (runs_.size() > most_runs)
		return;
	const Said said = run("", nullptr, [&] { return tool::map(in_.name, in_.json); });
	REQUIRE(said.failed == !whole_);
	if (said.failed)
		return;
	REQUIRE(!said.out.empty() && (in_.json || is_clean(said.out)));
	if (!in_.json)
		return;
	std::vector<Sectors> runs;
	u64 at = 0;
	bool was_cow = false;
	for (const json &r : json::parse(said.out)) {
		const u64 offset = r["offset"], bytes = r["bytes"];
		const bool cow = r["cow"];
		REQUIRE(offset == at && bytes && bytes % UBD_SECTOR_SIZE == 0 && (!at || cow != was_cow));
		REQUIRE(r["file_offset"] == offset + (cow ? header_.data_offset : 0));
		at += bytes;
		was_cow = cow;
		if (cow)
			runs.push_back({ offset / UBD_SECTOR_SIZE, at / UBD_SECTOR_SIZE });
	}
	REQUIRE(at == header_.bytes && runs == runs_);
}

// Nothing is wrong with the backing file, which is the one that is all zeros, and
// the COW file has all its sectors.
bool Case::sound_backing() const
{
	for (const std::string &f : findings_)
		if (f != "length" && f != "bits_beyond_device" && f != "merge_not_ended")
			return false;
	return whole_;
}

void Case::check_diff() const
{
	if (runs_.size() > most_runs)
		return;
	const Said said = run("", nullptr, [&] { return tool::diff(in_.name, true); });
	REQUIRE(said.failed == !sound_backing());
	if (said.failed)
		return;
	std::vector<Sectors> ranges;
	for (const json &r : json::parse(said.out)) {
		const u64 offset = r["offset"], bytes = r["bytes"];
		// One may end with a file that was cut within a sector.
		const u64 end = (offset + bytes + UBD_SECTOR_SIZE - 1) / UBD_SECTOR_SIZE;
		REQUIRE(offset % UBD_SECTOR_SIZE == 0 && bytes);
		ranges.push_back({ offset / UBD_SECTOR_SIZE, end });
	}
	// Pieces of 4096 bytes that have a difference; less, where holes are known.
	REQUIRE(is_within(ranges, differences(in_.cow, header_, 4096 / UBD_SECTOR_SIZE)));
	REQUIRE(is_within(differences(in_.cow, header_, 1), ranges));
}

// Nothing of this writes.
void Case::look_at() const
{
	check_findings(check(false, true), findings_, false);
	const Said said = check(false, false);
	REQUIRE(!said.failed && is_clean(said.out));
	check_info();
	check_map();
	if (in_.diff)
		check_diff();
	untouched();
}

// Returns what the file is then.
Content Case::repair() const
{
	check_findings(check(true, true), findings_, true);
	const Content after = repaired(in_.cow);
	REQUIRE(files_.cow() == after);
	REQUIRE(files_.state(false) == others_);
	// Who has nothing to repair does not write.
	REQUIRE(!(after == in_.cow) || files_.state(true) == state_);
	return after;
}

// One call of the host's goes wrong.
void Case::fail() const
{
	HostFault fault = in_.fault;
	const Said said = check(true, true, &fault);
	const Content after = files_.cow(), wanted = repaired(in_.cow);
	REQUIRE(files_.state(false) == others_);
	if (!fault.hit || !fault.error || fault.error == EINTR) {
		check_findings(said, findings_, true);
		REQUIRE(after == wanted);
		return;
	}
	// The length first, then the bits; each of it is done or not.
	Content longer = in_.cow;
	longer.truncate(wanted.size());
	REQUIRE(after == in_.cow || after == longer || after == wanted);
	if (said.failed)
		return;
	// The one that it can go on after.
	const std::vector<std::string> found = kinds_of(json::parse(said.out));
	REQUIRE(fault.call == Call::read && !found.empty() && found.back() == "backing_unreadable");
	REQUIRE(found.size() <= findings_.size() + 1 && std::equal(found.begin(), found.end() - 1, findings_.begin()));
}

} // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static const Files files;
	CheckInput in(data, bytes);
	// A file system may know no files of that length.
	if (!files.set_cow(in.cow) || !files.set_base(in.base, in.base_mtime))
		return 0;
	if (in.fault.call != Call::none) {
		Case(files, in).fail();
		REQUIRE(files.set_cow(in.cow));
	}
	const Case first(files, in);
	first.look_at();
	Content after = first.repair();
	if (after == in.cow)
		return 0;
	in.cow = std::move(after);
	const Case again(files, in);
	REQUIRE(!again.has_what_can_be_repaired());
	again.look_at();
	REQUIRE(again.repair() == in.cow);
	return 0;
}
