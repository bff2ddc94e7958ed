// SPDX-License-Identifier: GPL-2.0-only
/*
 * Looks for every kind of damage that a COW file can have, and repairs what
 * takes nothing from anybody: what the repair writes was of no meaning before.
 */
#include "commands.hh"
#include "ranges.hh"

#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace ubd::tool
{
namespace
{

struct Finding {
	const char *kind;
	std::string text;
	std::string remedy;
	bool repaired = false;
};

class Check {
public:
	Check(const std::string &path, bool repair) : path_(path), repair_(repair) {}
	void run();
	const std::vector<Finding> &findings() const { return findings_; }

private:
	Finding &found(const char *kind, const std::string &text, const std::string &remedy);
	bool check_header();
	void check_length();
	void check_padding();
	void check_backing();
	void check_backing_content(const File &backing);

	const std::string path_;
	const bool repair_;
	Image cow_;
	std::vector<Finding> findings_;
};

constexpr const char *from_copy = "restore it from a copy";

Finding &Check::found(const char *kind, const std::string &text, const std::string &remedy)
{
	return findings_.emplace_back(Finding{ kind, text, remedy });
}

void Check::run()
{
	const Access access = repair_ ? Access::write : Access::read;
	cow_.file = File::open(path_, access);
	cow_.file.lock(access);
	if (!check_header())
		return;
	check_length();
	check_padding();
	check_backing();
}

// False if nothing else can be said of the file.
bool Check::check_header()
{
	const char *why = "";
	switch (read_header(cow_.file, cow_.header, why)) {
	case CowRead::plain:
		found("no_cow_file", "it is no COW file, or its first bytes are lost", from_copy);
		return false;
	case CowRead::bad:
		found("header", why, from_copy);
		return false;
	case CowRead::ok:
		break;
	}
	return true;
}

void Check::check_length()
{
	const CowHeader &h = cow_.header;
	const u64 bytes = cow_.file.size();
	if (bytes >= h.file_bytes())
		return;
	if (bytes < h.bitmap_offset + h.bitmap_bytes) {
		found("bitmap_truncated",
		      "it has " + std::to_string(bytes) + " bytes, and its bitmap should end at " +
			      std::to_string(h.bitmap_offset + h.bitmap_bytes) +
			      ": which of the later sectors it had is lost",
		      from_copy);
		return;
	}
	if (const u64 end = end_of_bits(cow_); end > bytes) {
		found("data_truncated",
		      "it has " + std::to_string(bytes) + " bytes, but by its bitmap it has sectors up to byte " +
			      std::to_string(end) + ": these are lost, and would be read as zeros",
		      from_copy);
		return;
	}
	Finding &f = found("length",
			   "it has " + std::to_string(bytes) + " bytes instead of " + std::to_string(h.file_bytes()) +
				   "; nothing is lost, its last sectors were never written",
			   "the driver does it by itself, or say --repair");
	if (repair_ && S_ISREG(cow_.file.stat().st_mode)) {
		cow_.file.truncate(h.file_bytes());
		cow_.file.sync();
		f.repaired = true;
	}
}

// The last byte of the bitmap may have bits of no sector.
void Check::check_padding()
{
	const CowHeader &h = cow_.header;
	const u64 at = h.bitmap_offset + h.bitmap_bytes - 1;
	const u8 good = static_cast<u8>(0xff >> (8 - h.sectors() % 8) % 8);
	u8 last = 0;
	cow_.file.read(&last, 1, at);
	if (!(last & ~good))
		return;
	Finding &f = found("bits_beyond_device", "its bitmap has bits set behind the device's last sector",
			   "nothing reads them; --repair clears them");
	if (repair_) {
		last &= good;
		cow_.file.write(&last, 1, at);
		cow_.file.sync_data();
		f.repaired = true;
	}
}

void Check::check_backing()
{
	const std::string path = backing_path(cow_);
	const std::string trust = "if it was moved, say: ubd-cow rebase --trust " + shown(path_) + " NEWNAME";
	struct stat st;
	if (stat(path.c_str(), &st)) {
		found("backing_missing", "its backing file " + shown(path) + " cannot be found: " + errno_words(errno),
		      trust);
	} else if (cow_.file.is_same(st)) {
		found("names_itself", "it names itself as its backing file",
		      "give it the right one: ubd-cow rebase --trust " + shown(path_) + " BACKING");
	} else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		found("backing_type",
		      "its backing file " + shown(path) +
			      (S_ISDIR(st.st_mode) ? " is a directory"
						   : " is neither a regular file nor a block device"),
		      trust);
	} else {
		try {
			check_backing_content(File::open(path, Access::read));
		} catch (const Failure &f) {
			found("backing_unreadable", f.text, "check its permissions");
		}
	}
}

void Check::check_backing_content(const File &backing)
{
	const CowHeader &h = cow_.header;
	CowHeader other;
	const char *why = "";
	if (read_header(backing, other, why) != CowRead::plain)
		found("backing_is_cow", "its backing file " + shown(backing.path()) + " is a COW file itself",
		      "merge that first (ubd-cow merge)");
	if (backing.size() != h.bytes)
		found("backing_size",
		      "its backing file " + shown(backing.path()) + " has " + std::to_string(backing.size()) +
			      " bytes instead of " + std::to_string(h.bytes),
		      "name the right file (ubd-cow rebase --trust)" + remedy_if_grown(cow_, backing));
	if (cow_.header.merging)
		found("merge_not_ended", "a merge into its backing file was begun and not ended; nothing is lost",
		      "run it again: ubd-cow merge " + shown(path_));
	else if (!mtime_matches(h, backing))
		found("backing_mtime", mtime_text(h, backing) + ": it was written to, or copied without its time",
		      "if its content is the same as then, say: ubd-cow rebase --trust " + shown(path_));
}

nlohmann::ordered_json to_json(const Finding &f)
{
	return { { "kind", f.kind }, { "text", f.text }, { "remedy", f.remedy }, { "repaired", f.repaired } };
}

void print_json(const std::string &path, const std::vector<Finding> &findings)
{
	nlohmann::ordered_json out = { { "file", path }, { "sound", findings.empty() } };
	out["findings"] = nlohmann::ordered_json::array();
	for (const Finding &f : findings)
		out["findings"].push_back(to_json(f));
	std::puts(out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

void print_text(const std::string &path, const std::vector<Finding> &findings)
{
	for (const Finding &f : findings)
		std::printf("%s: %s; %s\n", shown(path).c_str(), f.text.c_str(),
			    f.repaired ? "repaired" : f.remedy.c_str());
	if (findings.empty())
		std::printf("%s: nothing is wrong\n", shown(path).c_str());
}

} // namespace

int check(const std::string &path, bool repair, bool json)
{
	Check c(path, repair);
	c.run();
	if (json)
		print_json(path, c.findings());
	else
		print_text(path, c.findings());
	if (c.findings().empty())
		return status_done;
	const auto left = [](const Finding &f) { return !f.repaired; };
	return std::any_of(c.findings().begin(), c.findings().end(), left) ? status_damaged : status_repaired;
}

} // namespace ubd::tool
