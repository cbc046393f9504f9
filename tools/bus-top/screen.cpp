#include "screen.hpp"

#include <curses.h>
#include <langinfo.h>

#include <algorithm>
#include <clocale>
#include <csignal>

#include "text.hpp"

namespace top {

namespace {

struct cell {
  std::string text;
  double value = 0;
  bool number = false;
};
struct row {
  std::vector<cell> cells;
  std::vector<std::string> details;
  bool alarming = false;
};
struct table {
  std::string title;
  std::vector<std::string> columns;
  std::vector<int> widths;  // negative: left aligned
  std::vector<row> rows;
};

cell words(std::string text) { return {tools::printable(text), 0, false}; }
cell count(double value) { return {tools::show_count(value), value, true}; }
cell percent(double value) {
  return {std::to_string(static_cast<int>(value * 100 + 0.5)) + " %", value, true};
}

bool is_alarming(const std::string& state) {
  return state == "refusing" || state == "full" || state == "blocked" || state == "losing" ||
         state == "lagging" || state == "stopped" || state == "dead";
}

table streams_table(const picture& p) {
  table t{"Streams",
          {"STREAM", "OVERFLOW", "LANES", "MSG/S", "BYTES/S", "MESSAGES", "HELD", "STATE"},
          {-22, -12, 6, 10, 12, 12, 7, -12},
          {}};
  for (const auto& s : p.streams) {
    row r;
    r.cells = {words(s.info.config.name),
               words(bus::overflow_name(s.info.config.overflow)),
               count(static_cast<double>(s.info.lanes.size())),
               count(s.messages_per_s),
               {tools::show_bytes(s.bytes_per_s), s.bytes_per_s, true},
               count(static_cast<double>(s.info.messages())),
               percent(s.fill),
               words(s.state)};
    std::string captures;
    for (const auto& pattern : s.info.config.subjects) captures += pattern + " ";
    r.details = {"captures " + captures,
                 "ring " + tools::show_bytes(static_cast<double>(s.info.config.ring_bytes)) +
                     " per lane, " + std::to_string(s.info.subjects_interned) + " subjects",
                 s.reason};
    r.alarming = is_alarming(s.state);
    t.rows.push_back(std::move(r));
  }
  return t;
}

table publishers_table(const picture& p) {
  table t{"Publishers",
          {"SUBJECT", "STREAM", "PROCESS", "PID", "MSG/S", "MESSAGES", "REFUSED", "STATE"},
          {-26, -16, -18, 8, 10, 12, 9, -12},
          {}};
  for (const auto& x : p.publishers) {
    row r;
    r.cells = {words(x.info.subject),
               words(x.info.stream),
               words(x.process),
               {std::to_string(x.pid), static_cast<double>(x.pid), true},
               count(x.messages_per_s),
               count(static_cast<double>(x.info.messages)),
               count(static_cast<double>(x.info.refused)),
               words(x.state)};
    r.details = {std::string(x.info.exclusive ? "exclusive" : "shared") + " publisher " +
                     std::to_string(x.info.id) + " on lane " + std::to_string(x.info.lane),
                 tools::show_bytes(static_cast<double>(x.info.bytes)) + " published", x.reason};
    r.alarming = is_alarming(x.state);
    t.rows.push_back(std::move(r));
  }
  return t;
}

table subscribers_table(const picture& p) {
  table t{"Subscribers",
          {"PATTERNS", "STREAM", "PROCESS", "PID", "MSG/S", "LAG", "GROWTH/S", "LOST", "STATE"},
          {-22, -14, -16, 8, 9, 9, 9, 9, -14},
          {}};
  for (const auto& x : p.subscribers) {
    row r;
    r.cells = {words(x.info.name),      words(x.info.stream),
               words(x.process),        {std::to_string(x.pid), static_cast<double>(x.pid), true},
               count(x.messages_per_s), count(static_cast<double>(x.info.lag_messages)),
               count(x.growth_per_s),   count(static_cast<double>(x.info.lost)),
               words(x.state)};
    r.details = {"lane " + std::to_string(x.info.lane) + ", next sequence " +
                     std::to_string(x.info.next_sequence) + ", lag " +
                     tools::show_bytes(static_cast<double>(x.info.lag_bytes)),
                 x.info.gating ? "holds publishers back when the ring is full"
                               : "loses messages when it is too slow",
                 x.reason};
    r.alarming = is_alarming(x.state);
    t.rows.push_back(std::move(r));
  }
  return t;
}

table processes_table(const picture& p) {
  table t{"Processes",
          {"NAME", "PID", "UID", "PUBLISHERS", "SUBSCRIBERS", "JOINED", "STATE"},
          {-24, 8, 8, 11, 12, -24, -12},
          {}};
  for (const auto& x : p.processes) {
    row r;
    r.cells = {words(x.info.name),
               {std::to_string(x.info.pid), static_cast<double>(x.info.pid), true},
               {std::to_string(x.info.uid), static_cast<double>(x.info.uid), true},
               count(static_cast<double>(x.info.publishers.size())),
               count(static_cast<double>(x.info.readers.size())),
               words(tools::show_time(x.info.joined)),
               words(x.state)};
    r.details = {"process " + std::to_string(x.info.id) + " of this bus" +
                     (x.info.other_namespace ? ", in another namespace" : ""),
                 x.reason};
    r.alarming = is_alarming(x.state);
    t.rows.push_back(std::move(r));
  }
  return t;
}

struct view {
  std::size_t table = 0;
  std::size_t sort_column[4] = {3, 4, 5, 3};
  bool descending = true;
  std::size_t cursor = 0;
  bool explain = false, paused = false, filtering = false;
  std::string filter;
};

bool contains(const row& r, const std::string& filter) {
  return filter.empty() || std::any_of(r.cells.begin(), r.cells.end(), [&](const cell& c) {
           return c.text.find(filter) != std::string::npos;
         });
}

void put(int y, int x, const std::string& text, int width) {
  if (width == 0) return;
  const bool left = width < 0;
  const auto room = static_cast<std::size_t>(left ? -width : width);
  std::string shown = text.size() > room ? text.substr(0, room - 1) + "~" : text;
  const std::string padding(room - std::min(room, shown.size()), ' ');
  mvaddstr(y, x, (left ? shown + padding : padding + shown).c_str());
}

void draw(const picture& p, view& v, std::string_view bus) {
  std::vector<table> tables = {streams_table(p), publishers_table(p), subscribers_table(p),
                               processes_table(p)};
  table& t = tables[v.table];
  const std::size_t column = std::min(v.sort_column[v.table], t.columns.size() - 1);
  std::stable_sort(t.rows.begin(), t.rows.end(), [&](const row& a, const row& b) {
    const cell &x = a.cells[column], &y = b.cells[column];
    const bool less = x.number ? x.value < y.value : x.text < y.text;
    const bool more = x.number ? x.value > y.value : x.text > y.text;
    return v.descending ? more : less;
  });
  std::erase_if(t.rows, [&](const row& r) { return !contains(r, v.filter); });
  if (v.cursor >= t.rows.size()) v.cursor = t.rows.empty() ? 0 : t.rows.size() - 1;

  erase();
  attron(A_BOLD);
  mvprintw(0, 0, "bus-top  %.*s  %s%s", static_cast<int>(bus.size()), bus.data(),
           tools::show_time(std::chrono::system_clock::now()).c_str(), v.paused ? "  PAUSED" : "");
  attroff(A_BOLD);
  int x = 0;
  for (std::size_t i = 0; i < tables.size(); ++i) {
    const std::string label = " " + std::to_string(i + 1) + " " + tables[i].title + " (" +
                              std::to_string(i == v.table ? t.rows.size() : tables[i].rows.size()) +
                              ") ";
    if (i == v.table) attron(A_REVERSE);
    mvaddstr(1, x, label.c_str());
    if (i == v.table) attroff(A_REVERSE);
    x += static_cast<int>(label.size()) + 1;
  }
  if (!v.filter.empty() || v.filtering)
    mvprintw(1, x + 1, "/%s%s", v.filter.c_str(), v.filtering ? "_" : "");
  x = 0;
  attron(A_UNDERLINE);
  for (std::size_t i = 0; i < t.columns.size(); ++i) {
    const std::string mark = i == column ? (v.descending ? "v" : "^") : "";
    put(3, x, t.columns[i] + mark, t.widths[i]);
    x += std::abs(t.widths[i]) + 1;
  }
  attroff(A_UNDERLINE);
  int y = 4;
  const std::size_t room = static_cast<std::size_t>(std::max(1, LINES - 6));
  const std::size_t first = v.cursor >= room ? v.cursor - room + 1 : 0;
  for (std::size_t i = first; i < t.rows.size() && y < LINES - 1; ++i) {
    const row& r = t.rows[i];
    const int style = (i == v.cursor ? A_REVERSE : 0) | (r.alarming ? A_BOLD | COLOR_PAIR(1) : 0);
    attron(style);
    x = 0;
    for (std::size_t c = 0; c < r.cells.size(); ++c) {
      put(y, x, r.cells[c].text, t.widths[c]);
      x += std::abs(t.widths[c]) + 1;
    }
    attroff(style);
    ++y;
    if (i == v.cursor && v.explain) {
      for (const auto& detail : r.details)
        if (!detail.empty() && y < LINES - 1)
          mvaddnstr(y++, 4, tools::printable(detail).c_str(), std::max(1, COLS - 4));
    }
  }
  if (t.rows.empty())
    mvaddstr(4, 2, v.filter.empty() ? "nothing here" : "nothing matches the filter");
  attron(A_DIM);
  mvaddnstr(LINES - 1, 0,
            "Tab/1-4 table  s sort  r reverse  / filter  Enter explain  p pause  q quit", COLS);
  attroff(A_DIM);
  refresh();
}

// Returns false to quit.
bool handle(int key, view& v) {
  if (v.filtering) {
    if (key == '\n' || key == 27)
      v.filtering = false;
    else if ((key == KEY_BACKSPACE || key == 127 || key == 8) && !v.filter.empty())
      v.filter.pop_back();
    else if (key >= 32 && key < 127)
      v.filter += static_cast<char>(key);
    return true;
  }
  switch (key) {
    case 'q': return false;
    case '\t':
      v.table = (v.table + 1) % 4;
      v.cursor = 0;
      break;
    case '1':
    case '2':
    case '3':
    case '4':
      v.table = static_cast<std::size_t>(key - '1');
      v.cursor = 0;
      break;
    case 's':
      v.sort_column[v.table] = (v.sort_column[v.table] + 1) % (v.table == 2   ? 9
                                                               : v.table == 3 ? 7
                                                                              : 8);
      break;
    case 'r': v.descending = !v.descending; break;
    case '/':
      v.filtering = true;
      v.filter.clear();
      break;
    case 'p': v.paused = !v.paused; break;
    case '\n':
    case KEY_ENTER: v.explain = !v.explain; break;
    case KEY_UP:
      if (v.cursor > 0) --v.cursor;
      break;
    case KEY_DOWN: ++v.cursor; break;
    default: break;
  }
  return true;
}

}  // namespace

int run_screen(observer& from, double interval_seconds) {
  std::setlocale(LC_ALL, "");
  if (initscr() == nullptr) return 1;
  cbreak();
  noecho();
  keypad(stdscr, TRUE);
  set_escdelay(50);
  curs_set(0);
  if (has_colors()) {
    start_color();
    use_default_colors();
    init_pair(1, COLOR_RED, -1);
  }
  view v;
  picture last;
  int status = 0;
  auto due = std::chrono::steady_clock::now();
  std::string failure;
  for (bool more = true; more;) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= due) {
      due = now + std::chrono::duration_cast<std::chrono::nanoseconds>(
                      std::chrono::duration<double>(interval_seconds));
      if (!v.paused) {
        auto seen = from.look();
        if (!seen) {
          failure = seen.error().message();
          status = bus::exit_status(seen.error().code);
          break;
        }
        last = std::move(*seen);
      }
    }
    draw(last, v, from.bus_name());
    timeout(static_cast<int>(std::max<std::int64_t>(
        10, std::chrono::duration_cast<std::chrono::milliseconds>(due - now).count())));
    const int key = getch();
    if (key != ERR) more = handle(key, v);
  }
  endwin();
  if (!failure.empty()) std::fprintf(stderr, "bus-top: %s\n", failure.c_str());
  return status;
}

}  // namespace top
