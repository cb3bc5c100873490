# frozen_string_literal: true

require 'json'
require_relative 'units'

# Recipes that scale, with a shopping list made from several of them.
module Kitchen
  UNITS = %w[g ml piece].freeze
  class UnknownUnit < StandardError; end

  # One ingredient with an amount.
  class Ingredient
    include Comparable
    attr_reader :name, :amount, :unit

    def initialize(name, amount, unit = 'piece')
      raise UnknownUnit, "unit #{unit.inspect}" unless UNITS.include?(unit)

      @name = name
      @amount = amount
      @unit = unit
    end

    def <=>(other)
      name <=> other.name
    end

    def *(factor)
      Ingredient.new(name, amount * factor, unit)
    end

    def to_s
      format('%-12s %8.1f %s', name, amount, unit)
    end
  end

  class Recipe
    attr_accessor :title, :serves

    def initialize(title, serves: 4)
      @title = title
      @serves = serves
      @ingredients = []
      @steps = []
      yield self if block_given?
    end

    def ingredient(name, amount, unit: 'g')
      @ingredients << Ingredient.new(name, amount, unit)
      self
    end

    def step(text = nil, &block)
      @steps << (text || block.call)
    end

    def scaled(people)
      return @ingredients if people == serves

      factor = people.to_f / serves
      @ingredients.map { |item| item * factor }
    end

    def each_step
      return enum_for(:each_step) unless block_given?

      @steps.each_with_index do |step, i|
        yield i + 1, step
      end
    end

    def self.load(path)
      data = JSON.parse(File.read(path), symbolize_names: true)
      new(data[:title], serves: data.fetch(:serves, 4)) do |recipe|
        data[:ingredients].each { |i| recipe.ingredient(i[:name], i[:amount], unit: i[:unit] || 'g') }
      end
    rescue Errno::ENOENT, JSON::ParserError => e
      warn "cannot read #{path}: #{e.message}"
      nil
    ensure
      $loads = ($loads || 0) + 1
    end
  end

  def self.shopping_list(recipes, people:)
    totals = Hash.new(0)
    recipes.each do |recipe|
      recipe.scaled(people).each { |item| totals[[item.name, item.unit]] += item.amount }
    end
    totals.sort_by { |(name, _unit), _amount| name }
  end
end

if __FILE__ == $PROGRAM_NAME
  soup = Kitchen::Recipe.new('Soup', serves: 2) do |r|
    r.ingredient('leek', 300).ingredient('cream', 100, unit: 'ml')
    r.step 'Cut the leek.'
    r.step { "Cook for #{10 + 5} minutes." }
  end
  Kitchen.shopping_list([soup], people: 6).each do |(name, unit), amount|
    case unit
    when 'g', 'ml' then puts "#{name}: #{amount.round}#{unit}"
    else puts "#{name}: #{amount.ceil}"
    end
  end
  puts <<~TEXT
    Serves #{soup.serves}; /le+k/ found: #{soup.scaled(2).any? { |i| i.name =~ /le+k/ }}
  TEXT
end
