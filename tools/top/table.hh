// SPDX-License-Identifier: GPL-2.0-only
/*
 * A report: what the disks did in an interval, or since they are there, as a
 * table of text.
 */
#ifndef UBD_TOOLS_TOP_TABLE_HH
#define UBD_TOOLS_TOP_TABLE_HH

#include "sample.hh"

namespace ubd::top
{

class Table {
public:
	// Totals, or rates per second.
	bool totals = false;

	// The table's lines, not wider than `width` where that is possible: what does
	// not fit stands below, each part with the disks' names. 0: as wide as it is.
	// A disk that was not there before counts from 0.
	std::vector<std::string> lines(const Samples &before, const Samples &after, size_t width);

private:
	struct Row {
		std::string name;
		std::vector<std::string> cells;
	};

	Row row(const std::string &name, const Sample &before, const Sample &after) const;
	std::vector<size_t> widths(const std::vector<Row> &rows);

	std::vector<size_t> widths_; // a column never gets narrower: nothing jumps
	bool were_totals_ = false;
};

} // namespace ubd::top

#endif
