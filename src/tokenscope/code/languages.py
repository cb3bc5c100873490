"""The table of languages. Adding one is an entry here, a sample and a snapshot test.

Where an entry says nothing, ``language.SHARED`` holds. See docs/structure.md.
"""

from __future__ import annotations

from tokenscope.code.language import Language
from tokenscope.registry import Registry

LANGUAGES: Registry[Language] = Registry("language")

_JS = {
    "expression": "array object arrow_function function_expression string template_string regex"
    " jsx_element jsx_self_closing_element class variable_declarator",
    "statement": "variable_declaration field_definition method_definition switch_case"
    " switch_default export_statement import_statement !ambient_declaration",
    "block": "statement_block class_body switch_body",
    "function": "function_declaration function_expression generator_function arrow_function"
    " generator_function_declaration method_definition",
    "klass": "class_declaration class",
    "keyword": "this super import",
    "constant": "undefined",
    "string": "template_string string_fragment regex regex_pattern regex_flags",
    "punctuation": "optional_chain",
    "comment": "html_comment hash_bang_line",
    "text": "jsx_text",
}
_TS = _JS | {
    "expression": _JS["expression"].replace(" jsx_element jsx_self_closing_element", ""),
    "statement": "variable_declaration public_field_definition method_definition switch_case"
    " switch_default property_signature method_signature abstract_method_signature index_signature"
    " enum_assignment import_alias",
    "block": "statement_block class_body switch_body interface_body enum_body",
    "function": _JS["function"] + " function_signature method_signature abstract_method_signature",
    "klass": "class_declaration class abstract_class_declaration interface_declaration"
    " enum_declaration",
    "type": "type_annotation",
    "keyword": "this super import accessibility_modifier override_modifier",
}
_C = {
    "expression": "string_literal initializer_list concatenated_string char_literal"
    " init_declarator",
    "statement": "declaration field_declaration function_definition type_definition preproc_if"
    " preproc_ifdef preproc_def preproc_function_def preproc_include preproc_call enumerator"
    " linkage_specification !attributed_statement",
    "block": "compound_statement field_declaration_list declaration_list enumerator_list",
    "function": "function_definition",
    "klass": "struct_specifier union_specifier enum_specifier",
    "keyword": "storage_class_specifier type_qualifier preproc_directive #*",
    "string": "system_lib_string",
    "text": "preproc_arg",
}
_TABLE = (
    Language(
        "python", "Python", "tree_sitter_python", suffixes=".py .pyi .pyw",
        fences="python py python3",
        expression="await *_operator attribute subscript call list tuple set dictionary"
            " *_comprehension"
        " concatenated_string string lambda assignment augmented_assignment yield pair"
        " expression_list"
        " keyword_argument slice list_splat dictionary_splat as_pattern",
        statement="function_definition class_definition decorated_definition elif_clause"
        " else_clause except_clause finally_clause case_clause",
        block="block", function="function_definition lambda", klass="class_definition",
        string="interpolation* !interpolation type_conversion string_start string_end",
        constant="ellipsis", punctuation="line_continuation",
        hints=(r"^\s*(async )?def \w+\(.*\).*:", r"^\s*(from \w[\w.]* )?import \w",
            r"^\s*class \w+.*:\s*$",
               r"^\s*(if|for|while|with|elif|else|try|except)\b.*:\s*(#.*)?$", r"^#!.*python"),
    ),
    Language(
        "javascript", "JavaScript", "tree_sitter_javascript", suffixes=".js .mjs .cjs .jsx",
        fences="javascript js jsx node mjs",
        hints=(r"\b(const|let|var) [\w{[]", r"=>", r"^\s*(export |async )*function\b.*\{",
               r"===|!==", r"\brequire\(", r"\bconsole\.log\(", r"^#!.*node"),
        **_JS,
    ),
    Language(
        "typescript", "TypeScript", "tree_sitter_typescript", "language_typescript",
        suffixes=".ts .mts .cts", fences="typescript ts",
        hints=(r"^\s*(export )?(interface|type) \w+[^;]*[={]",
            r"\w\??: (string|number|boolean|void)\b",
               r"\b(const|let) \w+: ", r"=>", r"===|!==", r"^\s*(private|public|readonly) \w+[:;(]",
               r"\bimport type\b", r"\): \w+[\w<>\[\]| ]* (\{|=>)"),
        **_TS,
    ),
    Language(
        "tsx", "TSX", "tree_sitter_typescript", "language_tsx", suffixes=".tsx", fences="tsx",
        hints=(r"^\s*(export )?(interface|type) \w+[^;]*[={]",
            r"\w\??: (string|number|boolean|void)\b",
               r"\b(const|let) \w+: ", r"=>", r"===|!==", r"\bimport type\b",
               r"\): \w+[\w<>\[\]| .]* (\{|=>)", r"return \(?\s*$|return <\w",
               r"^\s*<[A-Za-z]\w*[ />]",
               r"className="),
        **(_TS | {"expression": _JS["expression"]}),
    ),
    Language(
        "java", "Java", "tree_sitter_java", suffixes=".java", fences="java",
        expression="method_invocation field_access array_access array_initializer string_literal"
        " method_reference variable_declarator object_creation_expression class_literal",
        statement="field_declaration explicit_constructor_invocation switch_rule"
        " switch_block_statement_group enum_constant",
        block="switch_block interface_body enum_body",
        function="method_declaration constructor_declaration lambda_expression"
        " compact_constructor_declaration",
        klass="class_declaration interface_declaration enum_declaration record_declaration"
        " annotation_type_declaration",
        keyword="this super modifiers", type="void_type",
        hints=(r"^\s*package [\w.]+;", r"^import (static )?java[\w.]*;", r"^import [\w.]+(\.\*)?;",
               r"\bpublic (static |final |abstract )*(class|interface|enum|record) ",
               r"\bSystem\.out\.", r"^\s*(public|private|protected) .*[({;]\s*$", r"^\s*@Override"),
    ),
    Language(
        "go", "Go", "tree_sitter_go", suffixes=".go", fences="go golang",
        expression="composite_literal func_literal interpreted_string_literal raw_string_literal"
        " expression_list keyed_element",
        statement="package_clause short_var_declaration expression_case default_case type_case"
        " communication_case field_declaration const_spec var_spec import_spec method_elem",
        block="block field_declaration_list literal_value",
        function="function_declaration method_declaration func_literal",
        klass="type_spec", identifier="label_name", constant="iota rune_literal",
        string="interpreted_string_literal* raw_string_literal* rune_literal",
        punctuation="dot",
        hints=(r"^package \w+\s*$", r"^func (\(\w+ \*?\w+\) )?\w+\(", r":= ", r"^import \(?\s*\"?",
               r"\bif err != nil\b", r"^type \w+ (struct|interface) \{"),
    ),
    Language(
        "rust", "Rust", "tree_sitter_rust", suffixes=".rs", fences="rust rs",
        expression="macro_invocation string_literal raw_string_literal field_initializer",
        statement="*_item let_declaration field_declaration use_declaration match_arm enum_variant"
        " macro_definition !attribute_item extern_crate_declaration",
        block="block declaration_list field_declaration_list match_block enum_variant_list *_block",
        function="function_item closure_expression function_signature_item",
        klass="struct_item enum_item impl_item trait_item union_item",
        keyword="self super crate mutable_specifier visibility_modifier metavariable",
        identifier="lifetime", string="string_content",
        comment="doc_comment attribute_item", type="type_arguments",
        hints=(r"^\s*(pub(\(\w+\))? )?(async |unsafe )?fn \w+", r"\blet (mut )?\w+",
            r"^use [\w:]+(::|;)",
               r"^\s*impl\b.*\{", r"\b(println|vec|format|assert|assert_eq)!", r"&(mut |self|str)",
               r"^#!?\[\w+", r"^\s*(pub )?(struct|enum|trait) \w+.*[{;]"),
    ),
    Language(
        "c", "C", "tree_sitter_c", suffixes=".c .h", fences="c h",
        hints=(r"^#\s*include [<\"][\w/.]+\.h[>\"]", r"^#\s*(define|ifdef|ifndef) ",
               r"^(static |const |unsigned )*(int|void|char|struct \w+|size_t|long) [*\w]+\(",
               r"^typedef ", r"\w->\w", r"\b(printf|malloc|free|sizeof)\b"),
        **_C,
    ),
    Language(
        "cpp", "C++", "tree_sitter_cpp", suffixes=".cpp .cc .cxx .hpp .hh .hxx .ipp",
        fences="cpp c++ cxx cc hpp",
        hints=(r"^#\s*include <\w+>", r"\bstd::", r"^\s*(public|private|protected):",
            r"^using namespace ",
               r"^template\s*<", r"^namespace \w+", r"^class \w+", r"\bcout\b|\bnullptr\b|\bauto "),
        **(_C | {
            "expression": _C["expression"] + " raw_string_literal",
            "statement": _C["statement"] + " template_declaration namespace_definition"
            " for_range_loop alias_declaration concept_definition !parameter_pack_declaration"
            " !optional_parameter_declaration !variadic_parameter_declaration",
            "block": _C["block"] + "",
            "function": "function_definition lambda_expression",
            "klass": _C["klass"] + " class_specifier concept_definition",
            "keyword": _C["keyword"] + " this access_specifier virtual_specifier auto",
            "string": "system_lib_string raw_string_* literal_suffix",
            "identifier": "destructor_name operator_name",
            "type": "placeholder_type_specifier",
        }),
    ),
    Language(
        "csharp", "C#", "tree_sitter_c_sharp", suffixes=".cs", fences="csharp cs c#",
        expression="string_literal verbatim_string_literal raw_string_literal query_expression"
        " initializer_expression variable_declarator",
        statement="using_directive global_statement field_declaration switch_section"
        " switch_expression_arm !catch_declaration accessor_declaration",
        block="declaration_list enum_member_declaration_list accessor_list switch_body",
        function="method_declaration constructor_declaration local_function_statement"
        " lambda_expression operator_declaration destructor_declaration"
        " anonymous_method_expression",
        klass="class_declaration struct_declaration interface_declaration record_declaration"
        " enum_declaration",
        keyword="modifier this base", constant="discard",
        string="interpolation_start interpolation_quote character_literal*",
        punctuation="interpolation_brace", text="preproc_arg",
        hints=(r"^using (static )?[A-Z][\w.]*;", r"^namespace [\w.]+", r"\bConsole\.Write",
               r"^\s*(public|private|internal|protected) .*\{ get;", r"\bvar \w+ = ",
               r"\bstring\[?\]? \w+",
               r"^\s*(public|internal|private|protected) (sealed |static |abstract |readonly"
               " |override |async )"),
    ),
    Language(
        "ruby", "Ruby", "tree_sitter_ruby", suffixes=".rb .rake .gemspec", fences="ruby rb",
        expression="call binary unary assignment operator_assignment conditional element_reference"
        " array hash string pair lambda range regex symbol_array string_array heredoc_body"
        " chained_string subshell parenthesized_statements delimited_symbol scope_resolution",
        statement="method singleton_method class module singleton_class if unless while until for"
        " case when in_clause begin rescue ensure elsif else return if_modifier unless_modifier"
        " while_modifier until_modifier rescue_modifier alias undef next break redo retry yield",
        block="body_statement block do_block then do block_body",
        function="method singleton_method lambda do_block block",
        klass="class module singleton_class",
        keyword="self super", identifier="constant instance_variable class_variable global_variable"
        " hash_key_symbol",
        string="heredoc_* simple_symbol bare_symbol delimited_symbol regex",
        constant="line file encoding", operator="operator",
        number="rational complex", comment="uninterpreted",
        hints=(r"^\s*def (self\.)?\w+[?!]?(\(.*\))?\s*$", r"^\s*end\s*$",
            r"^\s*require(_relative)? ['\"]",
               r"\bdo \|[\w, ]+\|", r"^\s*attr_(reader|accessor|writer) ",
               r"^\s*(class|module) [A-Z]\w*( < .*)?$",
               r"\bputs\b", r"^#!.*ruby"),
    ),
    Language(
        "php", "PHP", "tree_sitter_php", "language_php", suffixes=".php .phtml", fences="php",
        expression="string encapsed_string heredoc nowdoc array_element_initializer arrow_function"
        " anonymous_function assignment_expression",
        statement="function_definition namespace_definition php_tag",
        block="compound_statement declaration_list switch_block match_block enum_declaration_list"
        " colon_block",
        function="function_definition method_declaration anonymous_function arrow_function",
        klass="class_declaration interface_declaration trait_declaration enum_declaration"
        " anonymous_class",
        keyword="*_modifier php_tag php_end_tag relative_scope", identifier="name variable_name",
        string="heredoc* nowdoc*", text="text",
        hints=(r"<\?php",),
    ),
    Language(
        "bash", "Bash", "tree_sitter_bash", suffixes=".sh .bash .zsh .ksh",
        fences="bash sh shell zsh console",
        expression="command_substitution expansion simple_expansion arithmetic_expansion string"
        " raw_string test_command array concatenation process_substitution subscript",
        statement="command pipeline list variable_assignment function_definition"
        " *_command !test_command case_item",
        block="do_group compound_statement subshell", function="function_definition",
        keyword="file_descriptor", identifier="variable_name special_variable_name command_name",
        string="word raw_string ansi_c_string heredoc_* regex extglob_pattern",
        operator="test_operator",
        hints=(r"^#!.*\b(ba|z|k)?sh\b", r"^\s*(if|while) \[\[? ", r"^\s*(fi|done|esac)\b",
            r"\$\{?\w+",
               r"^\s*(echo|export|local|set -)\b", r"\bthen\s*$", r"^\w+\(\) \{"),
    ),
    Language(
        "sql", "SQL", "tree_sitter_sql", suffixes=".sql", fences="sql postgresql mysql sqlite",
        expression="binary_expression invocation case cast subquery field list array literal"
        " column_definition term assignment between_expression exists window_function",
        statement="statement create_* alter_* drop_* insert update delete cte !*_query"
        " set_statement",
        block="block from where join group_by order_by having select function_body transaction",
        function="create_function create_procedure", klass="create_table create_view"
        " create_materialized_view create_type",
        keyword="keyword_* direction !keyword_true !keyword_false !keyword_null",
        constant="keyword_true keyword_false keyword_null", string="literal dollar_quote",
        identifier="all_fields", operator="op_other op_unary_other bang",
        comment="marginalia comment",
        type="int bigint smallint tinyint mediumint decimal numeric float double char varchar nchar"
        " nvarchar time timestamp datetime interval binary varbinary bit",
        hints=(r"(?i)^\s*(create|alter|drop) (or replace )?(table|view|index|function|database)\b",
               r"(?i)^\s*select\b", r"(?i)^\s*insert into\b", r"(?i)^\s*from \w+",
               r"(?i)^\s*update \w+ set\b",
               r"(?i)\b(not null|primary key|foreign key)\b", r"(?i)^\s*(with \w+ as|where)\b"),
    ),
    Language(
        "kotlin", "Kotlin", "tree_sitter_kotlin", suffixes=".kt .kts", fences="kotlin kt",
        expression="assignment string_literal multiline_string_literal lambda_literal"
        " object_literal collection_literal",
        statement="package_header import property_declaration assignment type_alias enum_entry"
        " when_entry anonymous_initializer companion_object !variable_declaration getter setter",
        block="block class_body enum_class_body function_body", function="function_declaration"
        " anonymous_function lambda_literal secondary_constructor",
        klass="class_declaration object_declaration companion_object",
        keyword="*_modifier", constant="character_literal",
        string="*_literal !number_literal !float_literal"
        " !lambda_literal !object_literal !collection_literal !character_literal",
        number="number_literal float_literal",
        hints=(r"^\s*(private |override |suspend |inline |internal )*fun (<.*> )?[\w.<>]+\(",
            r"\bval \w+",
               r"\bvar \w+(: | =)", r"^\s*(data|sealed|enum|open|abstract) class ",
               r"^package [\w.]+\s*$",
               r"\bwhen \(.*\) \{", r"\bprintln\(", r"^import [\w.]+\s*$"),
    ),
    Language(
        "swift", "Swift", "tree_sitter_swift", suffixes=".swift", fences="swift",
        expression="*_operation array_literal dictionary_literal line_string_literal assignment"
        " multi_line_string_literal lambda_literal interpolated_expression !_expression",
        statement="assignment import_declaration switch_entry enum_entry"
        " !protocol_property_requirements",
        block="statements class_body enum_class_body function_body protocol_body computed_property",
        function="function_declaration init_declaration deinit_declaration lambda_literal"
        " subscript_declaration protocol_function_declaration",
        klass="class_declaration protocol_declaration",
        keyword="*_modifier *_keyword self_expression super_expression else throws try_operator"
        " *_specifier !inheritance_specifier",
        identifier="simple_identifier", number="bin_literal hex_literal oct_literal",
        string="*_str_text str_escaped_char raw_str_* regex_literal",
        operator="custom_operator bang as_operator", comment="multiline_comment shebang_line",
        hints=(r"^import (Foundation|UIKit|SwiftUI|Combine)\b", r"^\s*(\w+ )*func \w+",
            r"\blet \w+(: \w+)? =",
               r"\bguard (let|var|\w)",
               r"^\s*(public |final |private )*(struct|class|enum|protocol|extension) \w+",
               r"\bif let \w+", r"-> \w+[?\[\]<>\w]* \{",
               r"^\s*(private |public |@\w+ )*var \w+: "),
    ),
    Language(
        "html", "HTML", "tree_sitter_html", suffixes=".html .htm .xhtml", fences="html xhtml",
        expression="attribute", statement="start_tag end_tag self_closing_tag doctype"
        " erroneous_end_tag", block="element script_element style_element",
        identifier="attribute_name", type="tag_name erroneous_end_tag_name",
        string="attribute_value quoted_attribute_value entity", text="text raw_text",
        keyword="doctype", punctuation="< > </ /> <!",
        hints=(r"(?i)<!doctype html", r"(?i)<html\b",
            r"(?i)^\s*<(head|body|div|section|p|ul|title)\b",
               r"(?i)</(div|html|head|body|p|ul|section)>"),
    ),
    Language(
        "css", "CSS", "tree_sitter_css", suffixes=".css", fences="css",
        expression="call_expression binary_expression string_value",
        statement="declaration rule_set at_rule *_statement keyframe_block",
        block="block keyframe_block_list", klass="rule_set",
        keyword="at_keyword important @* to from", identifier="property_name class_name id_name"
        " function_name feature_name attribute_name keyframes_name namespace_name plain_value",
        type="tag_name universal_selector nesting_selector unit",
        number="integer_value float_value color_value", string="string_value", comment="js_comment",
        hints=(r"^[.#]?[\w-]+([ >:,.#][\w .:#>,-]*)?\s*\{\s*$", r"^\s+[a-z-]+: [^;{]+;\s*$",
            r"^@(media|import|font-face|keyframes)\b",
               r"\b\d+(px|rem|em|vh|vw)\b", r"^:root"),
    ),
    Language(
        "json", "JSON", "tree_sitter_json", suffixes=".json .geojson .ipynb .webmanifest",
        fences="json", expression="string array object", statement="pair",
        block="object array",
        hints=(r"\A\s*[\[{]\s*(\"|\{|\[|\Z)", r"^\s*\"[^\"]+\"\s*:\s*[\[{\"\dtfn-]"),
    ),
)  # fmt: skip
for _language in _TABLE:
    LANGUAGES.add(_language.name, _language)
