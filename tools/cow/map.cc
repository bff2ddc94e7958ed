// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which file each range of the device lies in, and which ranges differ from the
 * backing file. Printed as they are found: there may be very many.
 */
#include "commands.hh"
#include "copy.hh"

#include <cstdio>
#include <nlohmann/json.hpp>

namespace ubd::tool
{
namespace
{

// One range a line, or a JSON array of them.
class Printer {
public:
	Printer(bool json, const char *head) : json_(json) { std::printf("%s", json ? "[" : head); }
	void add(const Range &r, const nlohmann::ordered_json &more, const std::string &text)
	{
		if (!json_) {
			std::printf("%-16llu %-16llu %s\n", r.at, r.bytes, text.c_str());
			return;
		}
		nlohmann::ordered_json out = { { "offset", r.at }, { "bytes", r.bytes } };
		out.update(more);
		std::printf("%s\n  %s", first_ ? "" : ",",
			    out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
		first_ = false;
	}
	void finish() const
	{
		if (json_)
			std::puts("\n]");
	}

private:
	const bool json_;
	bool first_ = true;
};

} // namespace

int map(const std::string &path, bool json)
{
	const Image cow = open_cow(path, Access::read);
	const std::string backing = backing_path(cow);
	Printer printer(json, "offset           bytes            file\n");
	for_each_part(cow, [&](const Range &r, bool in_cow) {
		const std::string &file = in_cow ? path : backing;
		const u64 at = in_cow ? cow.header.data_offset + r.at : r.at;
		printer.add(r, { { "cow", in_cow }, { "file", file }, { "file_offset", at } }, shown(file));
	});
	printer.finish();
	return status_done;
}

int diff(const std::string &path, bool json)
{
	const Image cow = open_cow(path, Access::read);
	const File backing = open_own_backing(cow, Access::read);
	Comparer comparer(backing, cow.file);
	Printer printer(json, "offset           bytes\n");
	Joiner joiner([&](const Range &r) { printer.add(r, nlohmann::ordered_json::object(), ""); });
	for_each_run(cow, [&](const Range &run) {
		comparer.compare(run.at, cow.header.data_offset + run.at, run.bytes, [&](const Range &r) {
			joiner.add(Range{ run.at + r.at, r.bytes });
		});
	});
	joiner.finish();
	printer.finish();
	return status_done;
}

} // namespace ubd::tool
