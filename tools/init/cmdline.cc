// SPDX-License-Identifier: GPL-2.0-only
#include "cmdline.hh"

namespace
{

/*
 * Cuts the next word off, by the rules of the kernel's next_arg(): quotes keep
 * blanks in a word, and those around the word or around its value go away. The
 * word ends with a NUL.
 */
Text next_word(char *&cursor)
{
	while (*cursor == ' ' || *cursor == '\n' || *cursor == '\t')
		++cursor;

	char *start = cursor;
	char *out = cursor;
	bool quoted = false;

	for (; *cursor != '\0'; ++cursor) {
		char c = *cursor;

		if (c == '"') {
			quoted = !quoted;
			continue;
		}
		if (!quoted && (c == ' ' || c == '\n' || c == '\t')) {
			++cursor;
			break;
		}
		*out++ = c;
	}

	Text word(start, out - start);
	/* Where the word ends at the text's end, the NUL is there already. */
	if (*out != '\0')
		*out = '\0';
	return word;
}

void add_module_parameter(CommandLine &line, Text parameter)
{
	bool blank = memchr(parameter.data(), ' ', parameter.size()) != nullptr;

	if (!line.module_parameters.empty())
		line.module_parameters.append(" ");
	if (blank)
		line.module_parameters.append("\"");
	line.module_parameters.append(parameter);
	if (blank)
		line.module_parameters.append("\"");
}

void take_word(CommandLine &line, Text word)
{
	uint64_t number;

	if (starts_with(word, "root="))
		line.root = after(word, "root=");
	else if (starts_with(word, "rootfstype="))
		line.rootfstype = after(word, "rootfstype=");
	else if (starts_with(word, "rootflags="))
		line.rootflags = after(word, "rootflags=");
	else if (starts_with(word, "init="))
		line.init = after(word, "init=");
	else if (word == "ro")
		line.read_only = true;
	else if (word == "rw")
		line.read_only = false;
	else if (word == "rootwait" || starts_with(word, "rootwait="))
		line.rootwait = true;
	else if (starts_with(word, "rootdelay=")) {
		if (parse_number(after(word, "rootdelay="), 10, number))
			line.rootdelay_s = static_cast<unsigned>(number);
		else
			say("'%s' ignored: not a number of seconds", word.data());
	} else if (starts_with(word, "con1="))
		line.has_con1 = true;
	else if (starts_with(word, "con2="))
		line.has_con2 = true;
	else if (starts_with(word, "ubd."))
		add_module_parameter(line, after(word, "ubd."));
}

} // namespace

const CommandLine &kernel_command_line()
{
	static char text[8192];
	static CommandLine line;

	if (text[0] != '\0')
		return line;
	read_file("/proc/cmdline", text, sizeof(text));
	for (char *cursor = text; *cursor != '\0';) {
		Text word = next_word(cursor);

		/* What follows is for the init program. */
		if (word == "--")
			break;
		take_word(line, word);
	}
	return line;
}
